#include "hierpool/selu.h"

#include "cpu/accumulation.h"
#include "cpu/row_kernels.h"
#include "cpu/tasks.h"

namespace hierpool::cpu {
namespace {

constexpr int64_t kTaskElements = 1 << 14;

template <typename T>
void forward(T* y, int64_t count, const Runtime& runtime) {
  const RowKernels<T>& kernels = row_kernels<T>(isa_in_force());
  run_range_tasks(runtime, count, kTaskElements,
                  [&](int64_t begin, int64_t end, int64_t) { kernels.selu(y + begin, end - begin); });
}

template <typename T>
void backward(T* dx, const T* dy, const T* y, int64_t count, const Runtime& runtime) {
  const RowKernels<T>& kernels = row_kernels<T>(isa_in_force());
  run_range_tasks(runtime, count, kTaskElements, [&](int64_t begin, int64_t end, int64_t) {
    kernels.selu_backward(dx + begin, dy + begin, y + begin, end - begin);
  });
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
