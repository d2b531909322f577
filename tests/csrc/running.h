// Runtimes of so many threads, and reproducible numbers.
#pragma once

#include <cstdint>
#include <thread>
#include <vector>

#include "hierpool/runtime.h"

namespace hierpool::testing {

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
