#include "kernels/core/overlap.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#include "kernels/core/error.h"

namespace theia {

namespace {

bool written(const Field& f) { return f.kind == Kind::tensor && f.role != Role::in; }

/// The bytes between the first and the last that a view touches. Empty views touch none.
struct Range {
  uintptr_t begin, end;
};
Range range_of(const Tensor& t) {
  const uintptr_t begin = reinterpret_cast<uintptr_t>(t.base) + static_cast<uintptr_t>(t.offset * bytes_of(t.dtype));
  for (int i = 0; i < t.rank; ++i)
    if (t.size[i] == 0) return {begin, begin};
  int64_t last = 0;
  for (int i = 0; i < t.rank; ++i) last += (t.size[i] - 1) * t.stride[i];
  return {begin, begin + static_cast<uintptr_t>((last + 1) * bytes_of(t.dtype))};
}
bool meet(const Range& a, const Range& b) { return a.begin < b.end && b.begin < a.end && a.begin < a.end && b.begin < b.end; }

/// A sum of count·stride over the dimensions, count in [lowest, highest].
struct Term {
  int64_t stride, lowest, highest;
};

/// Adds the dimensions of a view in bytes, neighbours joined where they run on; b's count downwards, as it is subtracted. Terms of equal
/// stride become one: this is what keeps the search short for two slices of one tensor.
int add_terms(const Tensor& t, bool negative, Term* terms, int n) {
  const int64_t bytes = bytes_of(t.dtype);
  int64_t stride = 1, size = bytes;  // the dimension that grows: at first the bytes of an element
  const auto put = [&] {
    if (size == 1 || stride == 0) return;
    Term* const known = std::find_if(terms, terms + n, [&](const Term& x) { return x.stride == stride; });
    if (known == terms + n) terms[n++] = {stride, 0, 0};
    (negative ? known->lowest : known->highest) += negative ? 1 - size : size - 1;
  };
  for (int i = t.rank - 1; i >= 0; --i) {
    if (t.size[i] == 1) continue;
    if (t.stride[i] * bytes == stride * size) {
      size *= t.size[i];
      continue;
    }
    put();
    stride = t.stride[i] * bytes;
    size = t.size[i];
  }
  put();
  return n;
}

/// Is there a choice of counts for terms[k..n) whose sum is `wanted`? Terms in falling order of stride, so that the later ones reach
/// little.
class Search {
 public:
  Search(const Term* terms, int n) : terms_(terms), n_(n) {
    least_[n] = most_[n] = divisor_[n] = 0;
    for (int k = n - 1; k >= 0; --k) {
      least_[k] = least_[k + 1] + terms[k].lowest * terms[k].stride;
      most_[k] = most_[k + 1] + terms[k].highest * terms[k].stride;
      divisor_[k] = std::gcd(divisor_[k + 1], terms[k].stride);
    }
  }
  bool possible(int64_t wanted, int k = 0) {
    if (wanted < least_[k] || wanted > most_[k]) return false;
    if (k == n_) return true;  // nothing left, and 0 is wanted
    if (wanted % divisor_[k] || ++steps_ > kSteps) return false;
    const Term& t = terms_[k];
    // Counts for which the later terms can still make up the rest.
    const int64_t from = std::max(t.lowest, ceil_divide(wanted - most_[k + 1], t.stride));
    const int64_t to = std::min(t.highest, -ceil_divide(least_[k + 1] - wanted, t.stride));
    for (int64_t count = from; count <= to && steps_ <= kSteps; ++count)
      if (possible(wanted - count * t.stride, k + 1)) return true;
    return false;
  }

 private:
  static constexpr int kSteps = 4096;
  static int64_t ceil_divide(int64_t a, int64_t b) { return a > 0 ? (a + b - 1) / b : -(-a / b); }
  const Term* terms_;
  int n_, steps_ = 0;
  int64_t least_[2 * kMaxRank + 3], most_[2 * kMaxRank + 3], divisor_[2 * kMaxRank + 3];
};

/// Same memory, same elements, same order.
bool same_view(const Tensor& a, const Tensor& b) {
  if (a.base != b.base || a.offset != b.offset || a.dtype != b.dtype || a.rank != b.rank) return false;
  for (int i = 0; i < a.rank; ++i)
    if (a.size[i] != b.size[i] || (a.size[i] != 1 && a.stride[i] != b.stride[i])) return false;
  return true;
}

/// True if `name` stands in a list like "a|b".
bool listed(const char* list, const char* name) {
  const size_t length = std::strlen(name);
  for (const char* at = list; at; at = std::strchr(at, '|')) {
    at += *at == '|';
    if (std::strncmp(at, name, length) == 0 && (at[length] == '|' || !at[length])) return true;
  }
  return false;
}

/// No two elements of the view lie at the same place: every stride reaches past everything that the smaller strides span. (A few
/// interleaved layouts without overlap are refused as well; nobody makes them.)
void check_distinct(const char* op, const char* field, const Tensor& t) {
  int order[kMaxRank], n = 0;
  for (int i = 0; i < t.rank; ++i) {
    if (t.size[i] == 0) return;
    if (t.size[i] == 1) continue;
    int at = n++;
    for (; at > 0 && t.stride[order[at - 1]] > t.stride[i]; --at) order[at] = order[at - 1];
    order[at] = i;
  }
  int64_t span = 0;  // the largest offset that the dimensions so far reach
  for (int k = 0; k < n; ++k) {
    const int i = order[k];
    if (t.stride[i] <= span)
      fail("ERR_SHAPE", "%s: expected elements of '%s' that do not overlap, got %s with stride %lld in dimension %d", op, field,
           describe(t).c_str(), static_cast<long long>(t.stride[i]), i);
    span += (t.size[i] - 1) * t.stride[i];
  }
}

}  // namespace

bool overlap(const Tensor& a, const Tensor& b) {
  const Range ra = range_of(a), rb = range_of(b);
  if (!meet(ra, rb)) return false;
  // a's byte at sum of i·stride is b's byte at distance + sum of j·stride
  Term terms[2 * kMaxRank + 2];
  const int n = add_terms(b, true, terms, add_terms(a, false, terms, 0));
  for (int i = 1; i < n; ++i)  // into falling order of stride
    for (int k = i; k > 0 && terms[k - 1].stride < terms[k].stride; --k) std::swap(terms[k - 1], terms[k]);
  return Search(terms, n).possible(static_cast<int64_t>(rb.begin) - static_cast<int64_t>(ra.begin));
}

void check_overlap(const char* op, std::span<const Field> fields, const void* args) {
  for (const Field& out : fields) {
    if (!written(out) || !tensor_at(args, out).present()) continue;
    const Tensor& t = tensor_at(args, out);
    check_distinct(op, out.name, t);
    for (const Field& other : fields) {
      if (other.kind != Kind::tensor || &other == &out || (written(other) && &other < &out)) continue;
      const Tensor& o = tensor_at(args, other);
      if (!o.present() || !overlap(t, o)) continue;
      if (out.shares && listed(out.shares, other.name)) {
        if (same_view(t, o)) continue;
        fail("ERR_ARGS", "%s: expected '%s' as exactly the view '%s' or apart from its memory, got a partial overlap", op, out.name,
             other.name);
      }
      fail("ERR_ARGS", "%s: expected '%s' apart from the memory of '%s', got an overlap", op, out.name, other.name);
    }
  }
}

}  // namespace theia
