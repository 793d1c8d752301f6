#include "kernels/adamw/segments.h"

#include "kernels/core/checks.h"

namespace theia {

namespace {
constexpr int64_t kColumns = kSegmentColumns;

bool fits(const int64_t* row, int64_t total, int64_t slots) {
  return row[0] >= 0 && row[1] >= 0 && row[0] <= total && row[1] <= total - row[0] && row[3] >= 0 && row[3] < slots;
}

bool enabled(const Tensor& slots, int64_t slot) {
  const int64_t at = slot * kColumns + 3;
  return slots.dtype == DType::f64 ? slots.ptr<double>()[at] != 0 : slots.ptr<float>()[at] != 0;
}
}  // namespace

void check_segments(const char* op, const Tensor& segments, const Tensor& slots) {
  expect_shape(op, "segments", segments, {segments.size[0], kColumns});
  expect_contiguous(op, "segments", segments);
  expect_shape(op, "slots", slots, {slots.size[0], kColumns});
  expect_contiguous(op, "slots", slots);
}

void check_rows(const char* op, const Tensor& segments, const Tensor& slots, int64_t total) {
  int64_t free_from = 0;
  const int64_t* row = segments.ptr<int64_t>();
  for (int64_t i = 0; i < segments.size[0]; ++i, row += kColumns) {
    if (!fits(row, total, slots.size[0]))
      fail("ERR_ARGS", "%s: expected row %lld of 'segments' inside %lld elements and %lld slots, got offset %lld, length %lld, slot %lld",
           op, static_cast<long long>(i), static_cast<long long>(total), static_cast<long long>(slots.size[0]),
           static_cast<long long>(row[0]), static_cast<long long>(row[1]), static_cast<long long>(row[3]));
    if (row[0] < free_from)
      fail("ERR_ARGS", "%s: expected row %lld of 'segments' at offset %lld or later, behind the row before it, got %lld", op,
           static_cast<long long>(i), static_cast<long long>(free_from), static_cast<long long>(row[0]));
    if (row[2] != 0 && row[2] != 1)
      fail("ERR_ARGS", "%s: expected decay 0 or 1 in row %lld of 'segments', got %lld", op, static_cast<long long>(i),
           static_cast<long long>(row[2]));
    free_from = row[0] + row[1];
  }
}

SegmentWalk::SegmentWalk(const Tensor& segments, const Tensor& slots, int64_t begin, int64_t end)
    : slots_(slots), begin_(begin), end_(end) {
  // The first row that starts behind `begin`; the one before it may reach in.
  const int64_t* rows = segments.ptr<int64_t>();
  int64_t low = 0, high = segments.size[0];
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (rows[middle * kColumns] <= begin)
      low = middle + 1;
    else
      high = middle;
  }
  row_ = rows + (low > 0 ? low - 1 : 0) * kColumns;
  last_row_ = rows + segments.size[0] * kColumns;
}

bool SegmentWalk::next(SegmentPiece& piece) {
  while (row_ < last_row_ && row_[0] < end_) {
    const int64_t* const row = row_;
    row_ += kColumns;
    if (!enabled(slots_, row[3])) continue;
    const int64_t first = row[0] > begin_ ? row[0] : begin_, last = row[0] + row[1] < end_ ? row[0] + row[1] : end_;
    if (first >= last) continue;
    piece = {first, last, row[3], row[2] != 0};
    return true;
  }
  return false;
}

}  // namespace theia
