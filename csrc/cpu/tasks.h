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

}  // namespace hierpool::cpu
