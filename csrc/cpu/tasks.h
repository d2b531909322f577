// Independent tasks, taken from a common counter by as many threads as there are.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "hierpool/runtime.h"

namespace hierpool::cpu {

// Calls task(index, thread) once for every index in [0, count). Which thread runs a task is not determined, so
// tasks write to memory of their own. `thread` is below runtime.threads, and selects scratch memory.
template <typename Task>
void run_tasks(const Runtime& runtime, int64_t count, const Task& task) {
  if (count <= 0) return;
  struct Context {
    const Task* task;
    int64_t count;
    std::atomic<int64_t> next{0};
  } context{&task, count};
  const auto body = [](int64_t begin, int64_t end, void* opaque) {
    auto& shared = *static_cast<Context*>(opaque);
    for (int64_t thread = begin; thread < end; ++thread) {
      for (;;) {
        const int64_t index = shared.next.fetch_add(1, std::memory_order_relaxed);
        if (index >= shared.count) break;
        (*shared.task)(index, thread);
      }
    }
  };
  const int64_t threads = std::min(runtime.threads, count);
  if (threads <= 1) return body(0, 1, &context);
  runtime.parallel(threads, body, &context);
}

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Calls task(begin, end, thread) for the ranges of [0, count) of `size` elements each; the last one may be shorter.
template <typename Task>
void run_range_tasks(const Runtime& runtime, int64_t count, int64_t size, const Task& task) {
  run_tasks(runtime, ceil_div(count, size),
            [&](int64_t t, int64_t thread) { task(t * size, std::min(count, (t + 1) * size), thread); });
}

// The runtime with only as many threads as `work` pays for, numbers that are read: to start a thread takes as long as
// some ten thousands.
inline Runtime for_work(Runtime runtime, int64_t work) {
  constexpr int64_t kThread = int64_t{1} << 16;
  runtime.threads = std::clamp<int64_t>(work / kThread, 1, std::max<int64_t>(runtime.threads, 1));
  return runtime;
}

// The first row before which there is `work`. before(row) is the work before a row, which ascends.
template <typename Before>
int64_t first_row_after(int64_t rows, int64_t work, const Before& before) {
  int64_t low = 0, high = rows;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    before(middle) < work ? low = middle + 1 : high = middle;
  }
  return low;
}

// Calls task(begin, end, thread) for ranges of rows of about `per_task` work; that of all rows is before(rows).
template <typename Before, typename Task>
void run_row_tasks(const Runtime& runtime, int64_t rows, int64_t per_task, const Before& before,
                   const Task& task) {
  const int64_t tasks = ceil_div(before(rows), per_task);
  run_tasks(runtime, tasks, [&](int64_t t, int64_t thread) {
    const int64_t begin = first_row_after(rows, t * per_task, before);
    const int64_t end = t + 1 == tasks ? rows : first_row_after(rows, (t + 1) * per_task, before);
    if (begin < end) task(begin, end, thread);
  });
}

}  // namespace hierpool::cpu
