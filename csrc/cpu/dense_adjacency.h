// Rows of dense adjacency matrices in the accumulation type, and their gradient.
#pragma once

#include <cstring>

#include "cpu/soft_pool_residual.h"

namespace hierpool::cpu {

template <typename T>
class DenseAdjacencyRows {
 public:
  using Adjacency = DenseAdjacency;

  static std::vector<int64_t> cut(const DenseAdjacency&, int64_t, int64_t n) {
    std::vector<int64_t> bounds;
    if (n <= kWholeGraph) return bounds;
    for (int64_t i = 0; i < n; i += kRowTile) bounds.push_back(i);
    bounds.push_back(n);
    return bounds;
  }

  // See Residual.
  void subtract(int64_t b, int64_t r, const Tile& tile, T* out, int64_t ld, T* buffer) const {
    for (int64_t i = tile.i0; i < tile.i1; ++i, out += ld) {
      kernels_.axpy(out, T(-1), row(b, r, i, buffer, tile.j0, tile.j1), tile.j1 - tile.j0);
    }
  }
  void subtract_transposed(int64_t b, int64_t r, const Tile& tile, T* out, int64_t ld, T* buffer) const {
    for (int64_t j = tile.j0; j < tile.j1; ++j, ++out) {
      const T* column = row(b, r, j, buffer, tile.i0, tile.i1);
      for (int64_t i = 0; i < tile.i1 - tile.i0; ++i) out[i * ld] -= column[i];
    }
  }

 protected:
  DenseAdjacencyRows(const DenseAdjacency& adjacency, const PoolContext<T>& context)
      : adjacency_(adjacency), context_(context), batch_(context.batch), kernels_(context.kernels) {}

  const Graph& graph(int64_t b) const { return context_.graphs.graph(b); }

  // Whether gathering rows of S for the non-zeros of so many rows and columns of A alone beats the dense product (measured).
  bool gathers(int64_t nonzeros, int64_t rows, int64_t columns, int64_t k) const {
    const bool splits = context_.splits(rows, k, columns, {of_a(), context_.of_s()});
    return (splits ? 32 : 4) * nonzeros <= rows * columns;
  }

  bool in_place(const Graph& g) const { return adjacency_.type == dtype_of<T>() && g.rows == nullptr; }
  bool split_in_place(const Graph& g) const { return adjacency_.type == DType::bf16 && g.rows == nullptr; }
  int of_a() const { return terms_of(adjacency_.type); }

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
  const PoolContext<T>& context_;
  const PoolBatch& batch_;
  const RowKernels<T>& kernels_;
};

// The gradient of a dense A [B, N, N] of one edge type, contiguous and of its dtype; or none.
template <typename T>
class DenseAdjacencyGradient {
 public:
  DenseAdjacencyGradient(const DenseAdjacency& adjacency, const PoolContext<T>& context, void* data)
      : type_(adjacency.type), context_(context), data_(data) {}

  bool wanted() const { return data_ != nullptr; }

  // `count` entries of row i, from column j on, both among the valid nodes; `buffer` holds as many elements.
  void store(int64_t b, int64_t i, int64_t j, const T* values, int64_t count, T* buffer) const {
    const Graph& g = context_.graphs.graph(b);
    if (g.rows == nullptr) return context_.kernels.store(entry(b, i, j), type_, values, count);
    context_.kernels.store(buffer, type_, values, count);
    const int64_t bytes = element_bytes(type_);
    const char* stored = reinterpret_cast<const char*>(buffer);
    for (int64_t c = 0; c < count; ++c)
      std::memcpy(entry(b, g.row(i), g.row(j + c)), stored + c * bytes, static_cast<size_t>(bytes));
  }

  // Zero where a node is not valid.
  void clear_padding(int64_t b) const {
    if (!wanted()) return;
    const Graph& g = context_.graphs.graph(b);
    const int64_t N = context_.batch.N, bytes = element_bytes(type_);
    context_.for_padding(g, [&](int64_t first, int64_t last) {
      std::memset(entry(b, first, 0), 0, static_cast<size_t>((last - first) * N * bytes));
      for (int64_t i = 0; i < g.n; ++i)
        std::memset(entry(b, g.row(i), first), 0, static_cast<size_t>((last - first) * bytes));
    });
  }

 private:
  char* entry(int64_t b, int64_t row, int64_t column) const {
    return at(data_, type_, (b * context_.batch.N + row) * context_.batch.N + column);
  }

  DType type_;
  const PoolContext<T>& context_;
  void* data_;
};

}  // namespace hierpool::cpu
