#include "hierpool/selu.h"

#include "cpu/accumulation.h"
#include "cpu/row_kernels.h"
#include "cpu/tasks.h"

namespace hierpool::cpu {
namespace {

constexpr int64_t kTaskElements = 1 << 14;

// Calls run(first, count) for pieces of [0, count).
template <typename Run>
void for_pieces(int64_t count, const Runtime& runtime, const Run& run) {
  run_tasks(runtime, (count + kTaskElements - 1) / kTaskElements, [&](int64_t task, int64_t) {
    const int64_t first = task * kTaskElements;
    run(first, std::min(kTaskElements, count - first));
  });
}

template <typename T>
void forward(T* y, int64_t count, const Runtime& runtime) {
  const RowKernels<T>& kernels = row_kernels<T>(isa_in_force());
  for_pieces(count, runtime, [&](int64_t first, int64_t n) { kernels.selu(y + first, n); });
}

template <typename T>
void backward(T* dx, const T* dy, const T* y, int64_t count, const Runtime& runtime) {
  const RowKernels<T>& kernels = row_kernels<T>(isa_in_force());
  for_pieces(count, runtime,
             [&](int64_t first, int64_t n) { kernels.selu_backward(dx + first, dy + first, y + first, n); });
}

}  // namespace

void selu_fwd(void* y, int64_t count, bool is_double, const Runtime& runtime) {
  with_accumulation_type(is_double, [&]<typename T>(T) { forward(static_cast<T*>(y), count, runtime); });
}

void selu_bwd(void* dx, const void* dy, const void* y, int64_t count, bool is_double,
              const Runtime& runtime) {
  with_accumulation_type(is_double, [&]<typename T>(T) {
    backward(static_cast<T*>(dx), static_cast<const T*>(dy), static_cast<const T*>(y), count, runtime);
  });
}

}  // namespace hierpool::cpu
