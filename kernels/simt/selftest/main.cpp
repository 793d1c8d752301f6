#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <string>

#include "kernels/core/error.h"
#include "kernels/simt/selftest/gemm.h"
#include "kernels/simt/selftest/selftest.h"

namespace theia::simt::selftest {
namespace {

struct Wrong : std::runtime_error {
  using std::runtime_error::runtime_error;
};

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
  }
  return out + '"';
}

/// What became of one case: "ok", "wrong" (its results), or the code of the error it ended with.
void report(const char* schedule, const Case& c) {
  std::string result = "ok", message;
  try {
    c.run();
  } catch (const Wrong& e) {
    result = "wrong";
    message = e.what();
  } catch (const Error& e) {
    result = e.code();
    message = e.what();
  } catch (const std::exception& e) {
    result = "exception";
    message = e.what();
  }
  // After whatever happened the emulator must work.
  if (result != "ok") {
    try {
      check_gemm<Gap::none>(65, 66, 72);
    } catch (const std::exception& e) {
      result = "broken";
      message += std::string("; and then a right kernel failed: ") + e.what();
    }
  }
  std::printf("{\"case\":\"%s\",\"schedule\":\"%s\",\"result\":\"%s\",\"message\":%s}\n", c.name, schedule, result.c_str(),
              quoted(message).c_str());
  std::fflush(stdout);
}

int run(int count, char** arguments) {
  std::vector<const char*> schedules, wanted;
  bool list = false, right = false;
  for (int i = 1; i < count; ++i) {
    if (std::strcmp(arguments[i], "--list") == 0)
      list = true;
    else if (std::strcmp(arguments[i], "--right") == 0)
      right = true;
    else if (std::strcmp(arguments[i], "--schedule") == 0 && i + 1 < count)
      schedules.push_back(arguments[++i]);
    else
      wanted.push_back(arguments[i]);
  }
  std::vector<Case> all;
  for (const auto& cases : {lane_cases(), number_cases(), kernel_cases(), hopper_cases()})
    all.insert(all.end(), cases.begin(), cases.end());
  if (!right)
    for (const auto& cases : {bug_cases(), hopper_bug_cases(), address_cases()}) all.insert(all.end(), cases.begin(), cases.end());
  if (list) {
    for (const Case& c : all) std::printf("%s\n", c.name);
    return 0;
  }
  // Without --schedule it is the one of THEIA_SIMT_SCHEDULE.
  if (schedules.empty()) schedules.push_back(nullptr);
  size_t found = 0;
  for (const char* schedule : schedules) {
    if (schedule) set_schedule(schedule);
    for (const Case& c : all) {
      bool take = wanted.empty();
      for (const char* name : wanted) take = take || std::strcmp(name, c.name) == 0;
      if (take) {
        ++found;
        report(schedule ? schedule : "", c);
      }
    }
  }
  if (found < wanted.size() * schedules.size()) {
    std::fprintf(stderr, "a case does not exist; --list names them\n");
    return 2;
  }
  return 0;
}

}  // namespace

void wrong(const char* format, ...) {
  char text[256];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  throw Wrong(text);
}

void expect_near(const char* what, int64_t index, double got, double want, double limit) {
  if (!(std::fabs(got - want) <= limit)) wrong("%s[%lld] is %.9g, must be %.9g", what, static_cast<long long>(index), got, want);
}

void expect_equal(const char* what, int64_t index, int64_t got, int64_t want) {
  if (got != want)
    wrong("%s[%lld] is %lld, must be %lld", what, static_cast<long long>(index), static_cast<long long>(got), static_cast<long long>(want));
}

}  // namespace theia::simt::selftest

int main(int count, char** arguments) {
  try {
    return theia::simt::selftest::run(count, arguments);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
