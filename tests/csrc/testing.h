// Test cases, assertions, and what every test needs: instruction sets, threads and reproducible numbers.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "cpu/isa.h"
#include "hierpool/runtime.h"

// A test case: TEST(name) { ... }. hp_tests runs the cases of all files, or of those named on its command line.
#define TEST(name)                                                                             \
  static void name();                                                                          \
  static const bool name##_is_registered = hierpool::testing::add_case(__FILE__, #name, name); \
  static void name()

// A failure prints its place and ends the program with status 1.
#define EXPECT(condition)                                                            \
  do {                                                                               \
    if (!(condition)) {                                                              \
      std::fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
      std::exit(1);                                                                  \
    }                                                                                \
  } while (false)

#define EXPECT_THROWS(expression, exception, part)                                                  \
  do {                                                                                              \
    std::string expect_message = "nothing was thrown";                                              \
    try {                                                                                           \
      (void)(expression);                                                                           \
    } catch (const exception& error) {                                                              \
      expect_message = error.what();                                                                \
    }                                                                                               \
    if (expect_message.find(part) == std::string::npos) {                                           \
      std::fprintf(stderr, "%s:%d: %s: expected an error with '%s', got: %s\n", __FILE__, __LINE__, \
                   #expression, part, expect_message.c_str());                                      \
      std::exit(1);                                                                                 \
    }                                                                                               \
  } while (false)

namespace hierpool::testing {

struct Case {
  std::string file, name;
  void (*run)();
};

std::vector<Case>& cases();
bool add_case(const char* file, const char* name, void (*run)());

// Calls run(isa) with every supported instruction set in force.
template <typename Run>
void for_each_isa(const Run& run) {
  for (cpu::Isa isa : cpu::supported_isas()) {
    setenv("HIERPOOL_CPU_ISA", std::string(cpu::isa_name(isa)).c_str(), 1);
    run(isa);
  }
  unsetenv("HIERPOOL_CPU_ISA");
}

inline void parallel(int64_t threads, Runtime::Body body, void* context) {
  std::vector<std::thread> pool;
  for (int64_t i = 1; i < threads; ++i) pool.emplace_back(body, i, i + 1, context);
  body(0, 1, context);
  for (std::thread& thread : pool) thread.join();
}

inline Runtime threads(int64_t count) { return {parallel, count, nullptr, nullptr}; }

// A reproducible number in (-1, 1).
inline double noise(uint64_t& state) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return static_cast<double>(static_cast<int64_t>(state >> 11)) / 4503599627370496.0 - 1.0;
}

}  // namespace hierpool::testing
