// What the forward and the backward of stacks of GraphSAGE layers share.
#pragma once

#include <algorithm>
#include <vector>

#include "cpu/buffer.h"
#include "cpu/sage_stack_graphs.h"
#include "cpu/tasks.h"

namespace hierpool::cpu {

// Shorter rows are divided by this length, which the gradient treats as a constant.
inline constexpr double kShortestRow = 1e-12;

template <typename T>
class StackContext {
 public:
  // Rows are cut into segments by these numbers alone, and segments into tiles, which stay in a cache.
  static constexpr int64_t kTileRows = 256;
  static constexpr int64_t kMostSegments = 64;

  StackContext(const SageStack& stack, const Runtime& runtime)
      : stack(stack),
        runtime(runtime),
        products(runtime),
        kernels(products.kernels),
        rows(stack.graphs),
        graphs(stack, rows, products, runtime) {
    for (int64_t l = 0; l < stack.count; ++l) {
      first_.push_back(width_);
      width_ += outputs(l);
      widest_ = std::max(widest_, outputs(l));
    }
    const int64_t tiles = (rows.count() + kTileRows - 1) / kTileRows;
    segment_rows_ = kTileRows * std::max<int64_t>(1, (tiles + kMostSegments - 1) / kMostSegments);
  }
  StackContext(const StackContext&) = delete;
  StackContext& operator=(const StackContext&) = delete;

  const SageStack& stack;
  const Runtime& runtime;
  const MatrixProducts<T> products;
  const RowKernels<T>& kernels;
  const StackRows rows;
  const StackGraphs<T> graphs;

  int64_t inputs(int64_t l) const { return l ? outputs(l - 1) : stack.inputs; }
  int64_t outputs(int64_t l) const { return stack.layers[l].outputs; }
  int64_t first(int64_t l) const { return first_[static_cast<size_t>(l)]; }  // of the columns of layer l
  int64_t width() const { return width_; }                                   // G
  int64_t widest() const { return widest_; }                                 // of all outputs
  bool is_inner(int64_t l) const { return l + 1 < stack.count; }
  bool is_normalised(int64_t l) const { return is_inner(l) && stack.norms() > 0; }
  bool aggregates_first(int64_t l) const { return l == 0 && stack.aggregate_first; }
  bool has_root() const { return stack.layers[0].root != nullptr; }

  int64_t segments() const { return (rows.count() + segment_rows_ - 1) / segment_rows_; }

  // Calls task(segment, begin, end, thread) for the tiles of every segment, in order.
  template <typename Task>
  void for_tiles(const Task& task) const {
    run_tasks(runtime, segments(), [&](int64_t segment, int64_t thread) {
      const int64_t end = std::min(rows.count(), (segment + 1) * segment_rows_);
      for (int64_t i = segment * segment_rows_; i < end; i += kTileRows) {
        task(segment, i, std::min(end, i + kTileRows), thread);
      }
    });
  }

  // Memory of each thread for a tile of rows of n elements.
  Buffer<T> tiles(int64_t n) const {
    return Buffer<T>(std::max<int64_t>(runtime.threads, 1) * kTileRows * n);
  }
  static T* tile(const Buffer<T>& tiles, int64_t n, int64_t thread) {
    return tiles.data() + thread * kTileRows * n;
  }

  // Rows [begin, end) of x[.., stride]: where they are, or a copy.
  const T* tile_of(const T* x, int64_t stride, int64_t n, int64_t begin, int64_t end, T* copy,
                   int64_t& ld) const {
    if (rows.are_all()) {
      ld = stride;
      return x + begin * stride;
    }
    for (int64_t i = begin; i < end; ++i) std::copy_n(x + rows.place(i) * stride, n, copy + (i - begin) * n);
    ld = n;
    return copy;
  }

  // norm of layer l is (rows - mean) * scale + shift.
  struct Norm {
    const T *mean = nullptr, *shift = nullptr;
    std::vector<T> scale;
  };
  Norm norm(int64_t l, const T* moments) const {
    const int64_t n = outputs(l);
    const T *mean = moments + 2 * l * n, *inverse = mean + n;
    const auto* gain = static_cast<const T*>(stack.layers[l].gain);
    Norm found{mean, static_cast<const T*>(stack.layers[l].shift), std::vector<T>(static_cast<size_t>(n))};
    for (int64_t j = 0; j < n; ++j) found.scale[static_cast<size_t>(j)] = gain[j] * inverse[j];
    return found;
  }

 private:
  std::vector<int64_t> first_;
  int64_t width_ = 0, widest_ = 0;
  int64_t segment_rows_;
};

}  // namespace hierpool::cpu
