// Rows of dense adjacency matrices in the accumulation type.
#pragma once

#include "cpu/pool_batch.h"

namespace hierpool::cpu {

template <typename T>
class DenseRows {
 public:
  using Adjacency = DenseAdjacency;

  static std::vector<int64_t> cut(const DenseAdjacency&, int64_t, int64_t n) {
    std::vector<int64_t> bounds;
    if (n <= kWholeGraph) return bounds;
    for (int64_t i = 0; i < n; i += kRowTile) bounds.push_back(i);
    bounds.push_back(n);
    return bounds;
  }

 protected:
  DenseRows(const DenseAdjacency& adjacency, const PoolProblem<T>& problem)
      : adjacency_(adjacency), problem_(problem), batch_(problem.batch), kernels_(problem.kernels) {}

  const Graph& graph(int64_t b) const { return problem_.graphs.graph(b); }

  // Whether gathering rows of S for the non-zeros of A alone beats the dense product (measured).
  static bool gathers(int64_t nonzeros, int64_t entries) { return 4 * nonzeros <= entries; }

  bool in_place(const Graph& g) const { return adjacency_.type == dtype_of<T>() && g.rows == nullptr; }

  int64_t offset(int64_t b, int64_t r, int64_t row) const {
    return b * adjacency_.stride_b + r * adjacency_.stride_r + row * adjacency_.stride_n;
  }

  // Row i of A on the valid columns [begin, end); `buffer` holds 2 N elements and may become the answer.
  const T* row(int64_t b, int64_t r, int64_t i, T* buffer, int64_t begin, int64_t end) const {
    const Graph& g = graph(b);
    const DType type = adjacency_.type;
    const char* row = at(adjacency_.data, type, offset(b, r, g.row(i)));
    if (g.rows == nullptr) {
      row += begin * element_bytes(type);
      if (type == dtype_of<T>()) return reinterpret_cast<const T*>(row);
      kernels_.load(buffer, row, type, end - begin);
      return buffer;
    }
    T* all = buffer + batch_.N;
    const int64_t first = g.rows[begin];
    kernels_.load(all, row + first * element_bytes(type), type, g.rows[end - 1] + 1 - first);
    for (int64_t j = begin; j < end; ++j) buffer[j - begin] = all[g.rows[j] - first];
    return buffer;
  }

  const DenseAdjacency& adjacency_;
  const PoolProblem<T>& problem_;
  const PoolBatch& batch_;
  const RowKernels<T>& kernels_;
};

}  // namespace hierpool::cpu
