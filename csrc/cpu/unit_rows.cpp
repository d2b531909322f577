#include "hierpool/unit_rows.h"

#include "cpu/accumulation.h"
#include "cpu/row_kernels.h"
#include "cpu/tasks.h"

namespace hierpool::cpu {
namespace {

constexpr int64_t kTaskElements = 1 << 14;

// Calls row(i) for every row, in tasks of about kTaskElements.
template <typename Row>
void for_rows(const UnitRows& shape, const Runtime& runtime, const Row& row) {
  const int64_t step = std::max<int64_t>(1, kTaskElements / std::max<int64_t>(1, shape.n));
  run_tasks(runtime, (shape.rows + step - 1) / step, [&](int64_t task, int64_t) {
    const int64_t end = std::min(shape.rows, (task + 1) * step);
    for (int64_t i = task * step; i < end; ++i) row(i);
  });
}

template <typename T>
void forward(const UnitRows& shape, T* h, int64_t stride, T* length, T* out, const Runtime& runtime) {
  const RowKernels<T>& kernels = row_kernels<T>(isa_in_force());
  for_rows(shape, runtime, [&](int64_t i) {
    length[i] = kernels.unit(h + i * stride, out + i * shape.n, shape.n, T(kShortestRow), shape.relu);
  });
}

template <typename T>
void backward(const UnitRows& shape, const T* dout, int64_t dout_stride, const T* y, const T* length, T* dh,
              int64_t stride, const Runtime& runtime) {
  const RowKernels<T>& kernels = row_kernels<T>(isa_in_force());
  for_rows(shape, runtime, [&](int64_t i) {
    kernels.unit_backward(dh + i * stride, dout + i * dout_stride, y + i * stride, shape.n, length[i],
                          length[i] > T(kShortestRow), shape.relu);
  });
}

}  // namespace

void unit_rows_fwd(const UnitRows& shape, void* h, int64_t stride, void* length, void* out,
                   const Runtime& runtime) {
  with_accumulation_type(shape.is_double, [&]<typename T>(T) {
    forward(shape, static_cast<T*>(h), stride, static_cast<T*>(length), static_cast<T*>(out), runtime);
  });
}

void unit_rows_bwd(const UnitRows& shape, const void* dout, int64_t dout_stride, const void* y,
                   const void* length, void* dh, int64_t stride, const Runtime& runtime) {
  with_accumulation_type(shape.is_double, [&]<typename T>(T) {
    backward(shape, static_cast<const T*>(dout), dout_stride, static_cast<const T*>(y),
             static_cast<const T*>(length), static_cast<T*>(dh), stride, runtime);
  });
}

}  // namespace hierpool::cpu
