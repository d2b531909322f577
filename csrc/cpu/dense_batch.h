// The graphs of a padded batch, and the views of them that the forward and the backward compute on.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <vector>

#include "cpu/buffer.h"
#include "cpu/row_kernels.h"
#include "cpu/tasks.h"
#include "hierpool/soft_pool_dense.h"

namespace hierpool::cpu {

// Work is cut by these sizes alone, never by the number of threads: the cut decides the order of every sum.
constexpr int64_t kWholeGraph = 512;  // a graph of at most so many nodes is one task ...
constexpr int64_t kRowTile = 256;     // ... a larger one is cut into tiles of so many rows

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// What the total entropy and the link norm are divided by.
struct MeanCounts {
  double entropy = 1, link = 1;
  explicit MeanCounts(const DenseBatch& batch) {
    if (!batch.mean) return;
    entropy = static_cast<double>(std::max<int64_t>(batch.B * batch.N, 1));
    link = entropy * static_cast<double>(std::max<int64_t>(batch.N, 1));
  }
};

// Multiply-adds from which a product goes to the BLAS: where its packing pays (measured with MKL on Zen 4, where
// the AVX-512 kernel here was the faster one at every size).
constexpr int64_t blas_from(Isa isa) {
  switch (isa) {
    case Isa::scalar: return int64_t{1} << 15;
    case Isa::avx2: return int64_t{1} << 27;
    default: return std::numeric_limits<int64_t>::max();
  }
}

// One graph: its valid rows are the first n, or those listed where the mask has holes.
struct Graph {
  int64_t n;
  const int32_t* rows;  // null: 0, 1, ..., n - 1
  int64_t tiles;        // pieces of at most kRowTile rows, or the whole
  int64_t first_tile;   // among the tiles of the batch

  int64_t row(int64_t i) const { return rows ? rows[i] : i; }
  int64_t tile_begin(int64_t tile) const { return tiles == 1 ? 0 : tile * kRowTile; }
  int64_t tile_end(int64_t tile) const { return tiles == 1 ? n : std::min(n, (tile + 1) * kRowTile); }
};

class Graphs {
 public:
  explicit Graphs(const DenseBatch& batch) {
    graphs_.reserve(static_cast<size_t>(batch.B));
    if (batch.mask) rows_ = Buffer<int32_t>(batch.B * batch.N);
    for (int64_t b = 0; b < batch.B; ++b) {
      Graph g{batch.num_nodes ? batch.num_nodes[b] : batch.N, nullptr, 1, tiles_};
      if (batch.mask) select(batch, b, g);
      if (g.n > kWholeGraph) g.tiles = ceil_div(g.n, kRowTile);
      tiles_ += g.tiles;
      largest_ = std::max(largest_, g.n);
      largest_tile_ = std::max(largest_tile_, g.tiles == 1 ? g.n : kRowTile);
      graphs_.push_back(g);
    }
    // Largest first: the last tasks to be taken are small.
    by_size_.resize(graphs_.size());
    std::iota(by_size_.begin(), by_size_.end(), int64_t{0});
    std::stable_sort(by_size_.begin(), by_size_.end(),
                     [&](int64_t a, int64_t b) { return graph(a).n > graph(b).n; });
  }

  const Graph& graph(int64_t b) const { return graphs_[static_cast<size_t>(b)]; }
  int64_t count() const { return static_cast<int64_t>(graphs_.size()); }
  int64_t tiles() const { return tiles_; }
  int64_t largest() const { return largest_; }
  int64_t largest_tile() const { return largest_tile_; }
  const std::vector<int64_t>& by_size() const { return by_size_; }

 private:
  void select(const DenseBatch& batch, int64_t b, Graph& g) {
    const uint8_t* mask = batch.mask + b * batch.N;
    int32_t* rows = rows_.data() + b * batch.N;
    g.n = 0;
    for (int64_t i = 0; i < batch.N; ++i) {
      rows[g.n] = static_cast<int32_t>(i);
      g.n += mask[i] != 0;
    }
    if (g.n > 0 && rows[g.n - 1] != g.n - 1) g.rows = rows;
  }

  std::vector<Graph> graphs_;
  std::vector<int64_t> by_size_;
  Buffer<int32_t> rows_;
  int64_t tiles_ = 0;
  int64_t largest_ = 0;
  int64_t largest_tile_ = 0;
};

template <typename T>
constexpr DType dtype_of() {
  return sizeof(T) == 8 ? DType::f64 : DType::f32;
}

// Rows of T, one after another: where they already lie, or a copy.
template <typename T>
struct RowsView {
  T* data;
  int64_t ld;
  bool copied;
  T* row(int64_t i) const { return data + i * ld; }
};

// Views of tensors, and the memory of those that had to be copied.
template <typename T>
class RowsViews {
 public:
  void add_in_place(const void* data, int64_t ld) {
    views_.push_back({static_cast<T*>(const_cast<void*>(data)), ld, false});
  }
  void add_copy(int64_t rows, int64_t width) {
    views_.push_back({nullptr, width, true});
    sizes_.push_back(rows * width);
  }
  void allocate() {
    memory_ = Buffer<T>(std::accumulate(sizes_.begin(), sizes_.end(), int64_t{0}));
    T* next = memory_.data();
    auto size = sizes_.begin();
    for (RowsView<T>& view : views_) {
      if (!view.copied) continue;
      view.data = next;
      next += *size++;
    }
  }
  const RowsView<T>& operator[](int64_t i) const { return views_[static_cast<size_t>(i)]; }

 private:
  std::vector<RowsView<T>> views_;
  std::vector<int64_t> sizes_;
  Buffer<T> memory_;
};

inline const char* at(const void* base, DType type, int64_t element) {
  return static_cast<const char*>(base) + element * element_bytes(type);
}
inline char* at(void* base, DType type, int64_t element) {
  return static_cast<char*>(base) + element * element_bytes(type);
}

// What both directions share: the batch, its graphs, matrix products, and rows of A in the accumulation type.
template <typename T>
class DenseProblem {
 public:
  DenseProblem(const DenseBatch& batch, const Runtime& runtime)
      : batch_(batch),
        runtime_(runtime),
        graphs_(batch),
        rows_(row_kernels<T>(isa_in_force())),
        blas_from_(blas_from(isa_in_force())) {
    if constexpr (sizeof(T) == 8) {
      blas_ = runtime.dgemm;
    } else {
      blas_ = runtime.sgemm;
    }
  }

 protected:
  // Whether gathering rows of S for the non-zeros of A alone beats the dense product (measured).
  static bool gathers(int64_t nonzeros, int64_t entries) { return 4 * nonzeros <= entries; }

  // C[m, n] (+)= A B with row-major A[m, lda].
  void product(int64_t m, int64_t n, int64_t k, const T* a, int64_t lda, const T* b, int64_t ldb, T* c,
               int64_t ldc, bool accumulate) const {
    if (large(m, n, k)) return blas_(false, false, m, n, k, a, lda, b, ldb, T(accumulate), c, ldc);
    rows_.gemm(m, n, k, a, lda, 1, b, ldb, c, ldc, accumulate);
  }

  // C[m, n] (+)= A^T B with row-major A[k, lda].
  void product_of_transposed(int64_t m, int64_t n, int64_t k, const T* a, int64_t lda, const T* b,
                             int64_t ldb, T* c, int64_t ldc, bool accumulate) const {
    if (large(m, n, k)) return blas_(true, false, m, n, k, a, lda, b, ldb, T(accumulate), c, ldc);
    rows_.gemm(m, n, k, a, 1, lda, b, ldb, c, ldc, accumulate);
  }

  bool adj_in_place(const Graph& g) const { return batch_.adj_type == dtype_of<T>() && g.rows == nullptr; }

  int64_t adj_offset(int64_t b, int64_t r, int64_t row) const {
    return b * batch_.adj_stride_b + r * batch_.adj_stride_r + row * batch_.adj_stride_n;
  }

  // Row i of A on the valid columns [begin, end); `buffer` holds 2 N elements and may become the answer.
  const T* adj_row(int64_t b, int64_t r, int64_t i, T* buffer, int64_t begin, int64_t end) const {
    const Graph& g = graphs_.graph(b);
    const char* row = at(batch_.adj, batch_.adj_type, adj_offset(b, r, g.row(i)));
    if (g.rows == nullptr) {
      row += begin * element_bytes(batch_.adj_type);
      if (batch_.adj_type == dtype_of<T>()) return reinterpret_cast<const T*>(row);
      rows_.load(buffer, row, batch_.adj_type, end - begin);
      return buffer;
    }
    T* all = buffer + batch_.N;
    const int64_t first = g.rows[begin];
    rows_.load(all, row + first * element_bytes(batch_.adj_type), batch_.adj_type,
               g.rows[end - 1] + 1 - first);
    for (int64_t j = begin; j < end; ++j) buffer[j - begin] = all[g.rows[j] - first];
    return buffer;
  }

  // A tensor [.., N, width] as the compact rows of a graph.
  void place(RowsViews<T>& views, const Graph& g, const void* data, DType type, int64_t offset,
             int64_t stride_n, int64_t width) const {
    if (data != nullptr && g.rows == nullptr && type == dtype_of<T>()) {
      views.add_in_place(at(data, type, offset), stride_n);
    } else {
      views.add_copy(g.n, width);
    }
  }

  // Rows [begin, end) of a graph in a tensor [.., N, width], as T.
  void load_rows(T* dst, const void* src, DType type, int64_t stride_n, const Graph& g, int64_t begin,
                 int64_t end, int64_t width) const {
    for (int64_t i = begin; i < end; ++i) {
      rows_.load(dst + (i - begin) * width, at(src, type, g.row(i) * stride_n), type, width);
    }
  }

  // Calls zero(begin, end) for every run of rows of the padded graph that are not valid.
  template <typename Zero>
  void for_padding(const Graph& g, const Zero& zero) const {
    if (g.rows == nullptr) {
      if (g.n < batch_.N) zero(g.n, batch_.N);
      return;
    }
    int64_t next = 0;
    for (int64_t i = 0; i < batch_.N; ++i) {
      if (next < g.n && g.rows[next] == i) {
        ++next;
      } else {
        zero(i, i + 1);
      }
    }
  }

  const DenseBatch& batch_;
  const Runtime& runtime_;
  Graphs graphs_;
  const RowKernels<T>& rows_;

 private:
  bool large(int64_t m, int64_t n, int64_t k) const { return blas_ && m * n * k >= blas_from_; }
  Gemm<T> blas_ = nullptr;
  int64_t blas_from_;
};

}  // namespace hierpool::cpu
