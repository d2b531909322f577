// Sums that tasks contribute to.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/buffer.h"
#include "cpu/tasks.h"

namespace hierpool::cpu {

// `width` sums of each task. Those of two tasks are far enough apart that no thread waits for the cache lines of another.
template <typename T>
class PartialSums {
 public:
  PartialSums(int64_t tasks, int64_t width)
      : tasks_(tasks),
        width_(width),
        stride_(ceil_div(width * kSize, kLines) * kLines / kSize),
        sums_(tasks * stride_) {}

  // Those of a task, which are 0.
  T* begin(int64_t task) {
    T* const sums = sums_.data() + task * stride_;
    std::fill_n(sums, width_, T(0));
    return sums;
  }

  // In the order of tasks.
  std::vector<double> total() const {
    std::vector<double> out(static_cast<size_t>(width_), 0.0);
    for (int64_t t = 0; t < tasks_; ++t) {
      for (int64_t j = 0; j < width_; ++j)
        out[static_cast<size_t>(j)] += static_cast<double>(sums_.data()[t * stride_ + j]);
    }
    return out;
  }

 private:
  static constexpr int64_t kSize = sizeof(T);
  static constexpr int64_t kLines = 128;  // bytes that processors fetch together

  int64_t tasks_, width_, stride_;
  Buffer<T> sums_;
};

}  // namespace hierpool::cpu
