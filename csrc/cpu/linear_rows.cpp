#include "hierpool/linear_rows.h"

#include <algorithm>

#include "cpu/buffer.h"
#include "cpu/row_kernels.h"
#include "cpu/tasks.h"

namespace hierpool::cpu {
namespace {

// Rows are cut into segments by these numbers alone; the sums of a segment are in order, and so are the segments.
constexpr int64_t kSegmentRows = 1024;
constexpr int64_t kMostSegments = 64;

class Segments {
 public:
  explicit Segments(const LinearRows& shape)
      : shape_(shape),
        rows_(std::max(kSegmentRows, (shape.rows + kMostSegments - 1) / kMostSegments)),
        count_((shape.rows + rows_ - 1) / rows_) {}

  int64_t count() const { return count_; }

  // For every segment, runs of valid rows and of others: run(segment, first, count), hole(first, count).
  template <typename Run, typename Hole>
  void for_each(const Runtime& runtime, const Run& run, const Hole& hole) const {
    run_tasks(runtime, count_, [&](int64_t segment, int64_t) {
      const int64_t end = std::min(shape_.rows, (segment + 1) * rows_);
      for (int64_t i = segment * rows_, next; i < end; i = next) {
        const bool valid = is_valid(i);
        for (next = shape_.mask ? i + 1 : end; next < end && is_valid(next) == valid;) ++next;
        valid ? run(segment, i, next - i) : hole(i, next - i);
      }
    });
  }

 private:
  bool is_valid(int64_t i) const { return shape_.mask == nullptr || shape_.mask[i] != 0; }

  const LinearRows& shape_;
  int64_t rows_, count_;
};

template <typename T>
void forward(const LinearRows& shape, const T* x, int64_t stride, const T* weight, const T* bias, T* y,
             const Runtime& runtime) {
  const RowKernels<T>& kernels = row_kernels<T>(isa_in_force());
  const int64_t n = shape.outputs;
  const Buffer<T> turned(shape.inputs * n);
  kernels.transpose(turned.data(), weight, shape.inputs, n, shape.inputs);
  const auto run = [&](int64_t, int64_t first, int64_t count) {
    for (int64_t i = first; i < first + count; ++i) std::copy_n(bias, n, y + i * n);
    kernels.gemm(count, n, shape.inputs, x + first * stride, stride, 1, turned.data(), n, y + first * n, n,
                 true);
  };
  const auto hole = [&](int64_t first, int64_t count) { std::fill_n(y + first * n, count * n, T(0)); };
  Segments(shape).for_each(runtime, run, hole);
}

template <typename T>
void backward(const LinearRows& shape, const T* dy, int64_t dy_stride, const T* x, int64_t stride,
              const T* weight, T* dx, T* dweight, T* dbias, const Runtime& runtime) {
  const RowKernels<T>& kernels = row_kernels<T>(isa_in_force());
  const Segments segments(shape);
  const int64_t n = shape.outputs, m = shape.inputs, size = n * m + n;
  const Buffer<T> sums(dweight ? segments.count() * size : 0);
  if (dweight) std::fill_n(sums.data(), segments.count() * size, T(0));
  const auto run = [&](int64_t segment, int64_t first, int64_t count) {
    const T* rows = dy + first * dy_stride;
    if (dx) kernels.gemm(count, m, n, rows, dy_stride, 1, weight, m, dx + first * m, m, false);
    if (dweight == nullptr) return;
    T* sum = sums.data() + segment * size;
    kernels.gemm(n, m, count, rows, 1, dy_stride, x + first * stride, stride, sum, m, true);
    for (int64_t i = 0; i < count; ++i) kernels.axpy(sum + n * m, T(1), rows + i * dy_stride, n);
  };
  const auto hole = [&](int64_t first, int64_t count) {
    if (dx) std::fill_n(dx + first * m, count * m, T(0));
  };
  segments.for_each(runtime, run, hole);
  if (dweight == nullptr) return;
  std::fill_n(dweight, n * m, T(0));
  std::fill_n(dbias, n, T(0));
  for (int64_t segment = 0; segment < segments.count(); ++segment) {
    const T* sum = sums.data() + segment * size;
    kernels.axpy(dweight, T(1), sum, n * m);
    kernels.axpy(dbias, T(1), sum + n * m, n);
  }
}

}  // namespace

void linear_rows(const LinearRows& shape, const void* x, int64_t stride, const void* weight, const void* bias,
                 void* y, const Runtime& runtime) {
  const auto run = [&]<typename T>(T* out) {
    forward(shape, static_cast<const T*>(x), stride, static_cast<const T*>(weight),
            static_cast<const T*>(bias), out, runtime);
  };
  shape.wide ? run(static_cast<double*>(y)) : run(static_cast<float*>(y));
}

void linear_rows_backward(const LinearRows& shape, const void* dy, int64_t dy_stride, const void* x,
                          int64_t stride, const void* weight, void* dx, void* dweight, void* dbias,
                          const Runtime& runtime) {
  const auto run = [&]<typename T>(T* out) {
    backward(shape, static_cast<const T*>(dy), dy_stride, static_cast<const T*>(x), stride,
             static_cast<const T*>(weight), out, static_cast<T*>(dweight), static_cast<T*>(dbias), runtime);
  };
  shape.wide ? run(static_cast<double*>(dx)) : run(static_cast<float*>(dx));
}

}  // namespace hierpool::cpu
