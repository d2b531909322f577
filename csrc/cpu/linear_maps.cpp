#include "hierpool/linear_maps.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "cpu/accumulation.h"
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
  explicit Segments(const LinearMaps& shape)
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

  const LinearMaps& shape_;
  int64_t rows_, count_;
};

// The first map, the first two as one, and so on to all of them.
template <typename T>
class Products {
 public:
  explicit Products(const LinearMaps& shape)
      : shape_(shape), kernels_(row_kernels<T>(isa_in_force())), maps_{cast(0)} {
    int64_t size = 0;
    for (int64_t i = 1; i < shape.count; ++i) size += outputs(i) * (shape.inputs + 1);
    memory_ = Buffer<T>(size);
    T* next = memory_.data();
    for (int64_t i = 1; i < shape.count; ++i) {
      const auto [weight, bias] = cast(i);
      const auto [before, offset] = maps_.back();
      const int64_t n = outputs(i), inner = outputs(i - 1), m = shape.inputs;
      T *product = next, *sum = next + n * m;
      kernels_.gemm(n, m, inner, weight, inner, 1, before, m, product, m, false);
      for (int64_t o = 0; o < n; ++o) sum[o] = bias[o] + kernels_.dot(weight + o * inner, offset, inner);
      maps_.emplace_back(product, sum);
      next = sum + n;
    }
  }

  // Weight and bias of all as one.
  std::pair<const T*, const T*> whole() const { return maps_.back(); }

  // Gradients of all maps from those of the whole.
  void differentiate(Buffer<T> dweight, Buffer<T> dbias, const LinearMapGradient* gradients) const {
    const int64_t m = shape_.inputs;
    for (int64_t i = shape_.count - 1; i > 0; --i) {
      const T* weight = cast(i).first;
      const auto [before, offset] = maps_[static_cast<size_t>(i - 1)];
      const int64_t n = outputs(i), inner = outputs(i - 1);
      T* into = static_cast<T*>(gradients[i].weight);
      const Buffer<T> transposed(m * inner);
      kernels_.transpose(transposed.data(), before, m, inner, m);
      kernels_.gemm(n, inner, m, dweight.data(), m, 1, transposed.data(), inner, into, inner, false);
      for (int64_t o = 0; o < n; ++o) kernels_.axpy(into + o * inner, dbias.data()[o], offset, inner);
      std::copy_n(dbias.data(), n, static_cast<T*>(gradients[i].bias));
      Buffer<T> dbefore(inner * m), doffset(inner);
      kernels_.gemm(inner, m, n, weight, 1, inner, dweight.data(), m, dbefore.data(), m, false);
      std::fill_n(doffset.data(), inner, T(0));
      for (int64_t o = 0; o < n; ++o)
        kernels_.axpy(doffset.data(), dbias.data()[o], weight + o * inner, inner);
      dweight = std::move(dbefore), dbias = std::move(doffset);
    }
    std::copy_n(dweight.data(), outputs(0) * m, static_cast<T*>(gradients[0].weight));
    std::copy_n(dbias.data(), outputs(0), static_cast<T*>(gradients[0].bias));
  }

 private:
  int64_t outputs(int64_t i) const { return shape_.maps[i].outputs; }
  std::pair<const T*, const T*> cast(int64_t i) const {
    return {static_cast<const T*>(shape_.maps[i].weight), static_cast<const T*>(shape_.maps[i].bias)};
  }

  const LinearMaps& shape_;
  const RowKernels<T>& kernels_;
  std::vector<std::pair<const T*, const T*>> maps_;
  Buffer<T> memory_;
};

template <typename T>
void forward(const LinearMaps& shape, const T* x, int64_t stride, T* y, const Runtime& runtime) {
  const RowKernels<T>& kernels = row_kernels<T>(isa_in_force());
  const Products<T> products(shape);
  const auto [weight, bias] = products.whole();
  const int64_t n = shape.outputs(), m = shape.inputs;
  const Buffer<T> transposed(m * n);
  kernels.transpose(transposed.data(), weight, m, n, m);
  const auto run = [&, bias = bias](int64_t, int64_t first, int64_t count) {
    for (int64_t i = first; i < first + count; ++i) std::copy_n(bias, n, y + i * n);
    kernels.gemm(count, n, m, x + first * stride, stride, 1, transposed.data(), n, y + first * n, n, true);
  };
  const auto hole = [&](int64_t first, int64_t count) { std::fill_n(y + first * n, count * n, T(0)); };
  Segments(shape).for_each(runtime, run, hole);
}

template <typename T>
void backward(const LinearMaps& shape, const T* dy, int64_t dy_stride, const T* x, int64_t stride, T* dx,
              bool accumulate, const LinearMapGradient* gradients, const Runtime& runtime) {
  const RowKernels<T>& kernels = row_kernels<T>(isa_in_force());
  const Products<T> products(shape);
  const T* weight = products.whole().first;
  const Segments segments(shape);
  const int64_t n = shape.outputs(), m = shape.inputs, size = n * m + n;
  const Buffer<T> sums(gradients ? segments.count() * size : 0);
  if (gradients) std::fill_n(sums.data(), segments.count() * size, T(0));
  const auto run = [&](int64_t segment, int64_t first, int64_t count) {
    const T* rows = dy + first * dy_stride;
    if (dx) kernels.gemm(count, m, n, rows, dy_stride, 1, weight, m, dx + first * m, m, accumulate);
    if (gradients == nullptr) return;
    T* sum = sums.data() + segment * size;
    kernels.gemm(n, m, count, rows, 1, dy_stride, x + first * stride, stride, sum, m, true);
    kernels.column_sums(sum + n * m, rows, dy_stride, count, n);
  };
  const auto hole = [&](int64_t first, int64_t count) {
    if (dx && !accumulate) std::fill_n(dx + first * m, count * m, T(0));
  };
  segments.for_each(runtime, run, hole);
  if (gradients == nullptr) return;
  Buffer<T> dweight(n * m), dbias(n);
  std::fill_n(dweight.data(), n * m, T(0));
  std::fill_n(dbias.data(), n, T(0));
  for (int64_t segment = 0; segment < segments.count(); ++segment) {
    const T* sum = sums.data() + segment * size;
    kernels.axpy(dweight.data(), T(1), sum, n * m);
    kernels.axpy(dbias.data(), T(1), sum + n * m, n);
  }
  products.differentiate(std::move(dweight), std::move(dbias), gradients);
}

}  // namespace

void linear_maps_fwd(const LinearMaps& shape, const void* x, int64_t stride, void* y,
                     const Runtime& runtime) {
  with_accumulation_type(shape.is_double, [&]<typename T>(T) {
    forward(shape, static_cast<const T*>(x), stride, static_cast<T*>(y), runtime);
  });
}

void linear_maps_bwd(const LinearMaps& shape, const void* dy, int64_t dy_stride, const void* x,
                     int64_t stride, void* dx, bool accumulate, const LinearMapGradient* gradients,
                     const Runtime& runtime) {
  with_accumulation_type(shape.is_double, [&]<typename T>(T) {
    backward(shape, static_cast<const T*>(dy), dy_stride, static_cast<const T*>(x), stride,
             static_cast<T*>(dx), accumulate, gradients, runtime);
  });
}

}  // namespace hierpool::cpu
