// The graphs of a batch, padded or ragged, and the views of them that the forward and the backward compute on.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <vector>

#include "cpu/buffer.h"
#include "cpu/matrix_products.h"
#include "cpu/tasks.h"
#include "hierpool/soft_pool.h"

namespace hierpool::cpu {

// Work is cut by these sizes alone, never by the number of threads: the cut decides the order of every sum.
constexpr int64_t kWholeGraph = 512;  // a graph of at most so many nodes is one task ...
constexpr int64_t kRowTile = 256;     // ... a larger one is cut into tiles of at most so many rows

// What the total entropy and the link norm are divided by.
struct MeanCounts {
  double entropy = 1, link = 1;
  explicit MeanCounts(const PoolBatch& batch) {
    if (!batch.mean) return;
    entropy = static_cast<double>(std::max<int64_t>(batch.B * batch.N, 1));
    link = entropy * static_cast<double>(std::max<int64_t>(batch.N, 1));
  }
};

// Whether |A - S S^T|^2 = |A|^2 - 2 tr(S^T A S) + |S^T S|^2 is so small that the difference has too few digits: then the
// squares of A - S S^T itself are summed, tile by tile. Above, a difference of rounded sums has four digits.
template <typename T>
bool cancels(double link_sq, double adj_sq) {
  return link_sq < 4096.0 * static_cast<double>(std::numeric_limits<T>::epsilon()) * adj_sq;
}

// Whether T holds a factor, and products with it, with all digits.
template <typename T>
bool in_range(double factor) {
  using limits = std::numeric_limits<T>;
  const double size = std::abs(factor);
  return size >= limits::min() / limits::epsilon() && size <= limits::max() * limits::epsilon();
}

// y += factor x
template <typename T>
void add_scaled(const RowKernels<T>& kernels, T* y, double factor, const T* x, int64_t n) {
  if (in_range<T>(factor)) return kernels.axpy(y, static_cast<T>(factor), x, n);
  if (factor == 0) return;
  for (int64_t i = 0; i < n; ++i) y[i] += static_cast<T>(factor * static_cast<double>(x[i]));
}

// Whether a sum of squares in T, of rows of A, has its digits: no square overflowed, and those that became 0 are too
// small to count.
template <typename T>
bool holds_squares(double sum) {
  using limits = std::numeric_limits<T>;
  return sum >= limits::min() / limits::epsilon() * (1 << 23) && sum <= limits::max();
}

// The sum of squares, in parts that are added in double.
template <typename T>
double squares(const RowKernels<T>& kernels, const T* values, int64_t n) {
  constexpr int64_t kPart = 256;
  double sum = 0;
  for (int64_t i = 0; i < n; i += kPart) sum += kernels.dot(values + i, values + i, std::min(kPart, n - i));
  return sum;
}

template <typename T>
double sum_of_squares(const T* row, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(row[i]) * static_cast<double>(row[i]);
  return sum;
}

// One graph: its valid rows are the first n, or those listed where the mask has holes.
struct Graph {
  int64_t n;
  int64_t first_row;      // of S and X, among the rows of the batch
  const int32_t* rows;    // null: 0, 1, ..., n - 1
  int64_t tiles;          // pieces of at most kRowTile rows, or the whole
  int64_t first_tile;     // among the tiles of the batch
  const int64_t* bounds;  // [tiles + 1] where the pieces begin; null: the whole
  int64_t k;              // clusters

  int64_t row(int64_t i) const { return rows ? rows[i] : i; }
  int64_t tile_begin(int64_t tile) const { return bounds ? bounds[tile] : 0; }
  int64_t tile_end(int64_t tile) const { return bounds ? bounds[tile + 1] : n; }
};

class Graphs {
 public:
  // cut(first_row, n) is where a graph has to be cut, or empty where it is one task.
  template <typename Cut>
  Graphs(const PoolBatch& batch, const Cut& cut) {
    graphs_.reserve(static_cast<size_t>(batch.B));
    if (batch.mask) rows_ = Buffer<int32_t>(batch.B * batch.N);
    for (int64_t b = 0; b < batch.B; ++b) {
      Graph g{batch.num_nodes ? batch.num_nodes[b] : batch.N,
              b * batch.N,
              nullptr,
              1,
              tiles_,
              nullptr,
              batch.clusters(b)};
      if (batch.ptr) g.n = batch.ptr[b + 1] - batch.ptr[b], g.first_row = batch.ptr[b];
      if (batch.mask) select(batch, b, g);
      if (std::vector<int64_t> bounds = cut(g.first_row, g.n); !bounds.empty()) {
        g.tiles = static_cast<int64_t>(bounds.size()) - 1;
        bounds_.push_back(std::move(bounds));
        g.bounds = bounds_.back().data();
      }
      tiles_ += g.tiles;
      largest_ = std::max(largest_, g.n);
      largest_tile_ = std::max(largest_tile_, g.bounds ? kRowTile : g.n);
      graphs_.push_back(g);
    }
    // Largest first: the last tasks to be taken are small.
    by_size_.resize(graphs_.size());
    std::iota(by_size_.begin(), by_size_.end(), int64_t{0});
    std::stable_sort(by_size_.begin(), by_size_.end(),
                     [&](int64_t a, int64_t b) { return graph(a).n * graph(a).k > graph(b).n * graph(b).k; });
  }

  const Graph& graph(int64_t b) const { return graphs_[static_cast<size_t>(b)]; }
  int64_t tiles() const { return tiles_; }
  int64_t largest() const { return largest_; }
  int64_t largest_tile() const { return largest_tile_; }

  // Those cut into tiles, and those that are one task.
  template <typename Cut, typename Whole>
  void for_each(const Runtime& runtime, const Cut& cut, const Whole& whole) const {
    std::vector<int64_t> tasks;
    tasks.reserve(by_size_.size());
    for (int64_t b : by_size_) {
      if (graph(b).bounds) {
        cut(b);
      } else {
        tasks.push_back(b);
      }
    }
    run_tasks(runtime, static_cast<int64_t>(tasks.size()),
              [&](int64_t i, int64_t thread) { whole(tasks[static_cast<size_t>(i)], thread); });
  }

 private:
  // Most masks have no holes: then no row has to be listed.
  void select(const PoolBatch& batch, int64_t b, Graph& g) {
    const uint8_t *mask = batch.mask + b * batch.N, *end = mask + batch.N;
    const auto* hole = static_cast<const uint8_t*>(std::memchr(mask, 0, static_cast<size_t>(batch.N)));
    g.n = hole ? hole - mask : batch.N;
    if (hole == nullptr || std::accumulate(hole, end, 0u, std::bit_or<>()) == 0) return;
    int32_t* rows = rows_.data() + b * batch.N;
    g.n = 0;
    for (int64_t i = 0; i < batch.N; ++i) {
      rows[g.n] = static_cast<int32_t>(i);
      g.n += mask[i] != 0;
    }
    g.rows = rows;
  }

  std::vector<Graph> graphs_;
  std::vector<int64_t> by_size_;
  std::vector<std::vector<int64_t>> bounds_;
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

// Memory for each thread.
template <typename T>
class Scratch {
 public:
  Scratch() = default;
  Scratch(int64_t count, const Runtime& runtime)
      : count_(count), memory_(count * std::max<int64_t>(runtime.threads, 1)) {}
  T* of(int64_t thread) const { return memory_.data() + thread * count_; }

 private:
  int64_t count_ = 0;
  Buffer<T> memory_;
};

// Views of tensors, and the memory of those that had to be copied: one block for all, or where a graph is one task, a block
// for each thread, which stays in its caches.
template <typename T>
class RowsViews {
 public:
  void reserve(int64_t count) {
    views_.reserve(static_cast<size_t>(count));
    sizes_.reserve(static_cast<size_t>(count));
  }
  void add_in_place(const void* data, int64_t ld) {
    add({static_cast<T*>(const_cast<void*>(data)), ld, false}, 0);
  }
  void add_copy(int64_t rows, int64_t width) { add({nullptr, width, true}, rows * width); }
  void add_lent(int64_t rows, int64_t width) {
    add({nullptr, width, true}, 0);
    largest_ = std::max(largest_, rows * width);
  }
  void allocate() {
    memory_ = Buffer<T>(std::accumulate(sizes_.begin(), sizes_.end(), int64_t{0}));
    T* next = memory_.data();
    for (size_t i = 0; i < views_.size(); ++i) {
      if (sizes_[i] > 0) views_[i].data = next;
      next += sizes_[i];
    }
  }
  void allocate(const Runtime& runtime) {
    allocate();
    lent_ = Scratch<T>(largest_, runtime);
  }
  // Gives a view the memory of a thread, if it needs some.
  void lend(int64_t i, int64_t thread) {
    RowsView<T>& view = views_[static_cast<size_t>(i)];
    if (view.copied && sizes_[static_cast<size_t>(i)] == 0) view.data = lent_.of(thread);
  }
  const RowsView<T>& operator[](int64_t i) const { return views_[static_cast<size_t>(i)]; }

 private:
  void add(const RowsView<T>& view, int64_t size) {
    views_.push_back(view);
    sizes_.push_back(size);
  }

  std::vector<RowsView<T>> views_;
  std::vector<int64_t> sizes_;  // of those that are in one block
  int64_t largest_ = 0;
  Buffer<T> memory_;
  Scratch<T> lent_;
};

inline const char* at(const void* base, DType type, int64_t element) {
  return static_cast<const char*>(base) + element * element_bytes(type);
}
inline char* at(void* base, DType type, int64_t element) {
  return static_cast<char*>(base) + element * element_bytes(type);
}

// The terms that entries of a type are split into without losing digits; 0: there are more.
constexpr int terms_of(DType type) {
  switch (type) {
    case DType::bf16:
    case DType::i8:
    case DType::u8: return 1;
    case DType::f16: return 2;
    default: return 0;
  }
}

// What both directions and all kinds of adjacency share: the batch, its graphs, its rows and matrix products.
template <typename T>
class PoolContext : public MatrixProducts<T> {
 public:
  using MatrixProducts<T>::kernels;

  template <typename Cut>
  PoolContext(const PoolBatch& batch, const Runtime& runtime, const Cut& cut)
      : MatrixProducts<T>(runtime), batch(batch), runtime(runtime), graphs(batch, cut) {}

  const PoolBatch& batch;
  const Runtime& runtime;
  const Graphs graphs;

  // Terms of S, of X, and of what is computed from them, which needs no more digits than S has.
  int of_s() const { return terms_of(batch.s_type); }
  int of_x() const { return terms_of(batch.x_type); }
  int of_computed() const { return of_s() ? 2 : 0; }

  // C[m, n] = the sum of products with row-major A.
  void sum_of_products(int64_t m, int64_t n, const std::vector<Factors<T>>& factors, T* c,
                       int64_t ldc) const {
    constexpr int64_t kTogether = 256;  // inner size of a sum in one register
    int64_t inner = 0;
    bool splits = !factors.empty();
    for (const Factors<T>& f : factors) inner += f.k, splits = splits && this->splits(m, n, f.k, f.terms);
    if (splits) return this->sum_of_split_products(m, n, factors, c, ldc);
    if (factors.size() > 1 && inner <= kTogether && !this->large(m, n, inner)) {
      return kernels.sum_of_products(m, n, factors.data(), static_cast<int64_t>(factors.size()), c, ldc);
    }
    if (factors.empty()) {
      for (int64_t i = 0; i < m; ++i) std::fill_n(c + i * ldc, n, T(0));
    }
    bool accumulate = false;
    for (const Factors<T>& f : factors) {
      this->product(m, n, f.k, f.a, f.a_row, f.b, f.ldb, c, ldc, accumulate, f.terms);
      accumulate = true;
    }
  }

  // Where a graph begins in a tensor [B, N, ..], or ragged.
  int64_t offset(int64_t b, int64_t stride_b, int64_t stride_n) const {
    return batch.ptr ? batch.ptr[b] * stride_n : b * stride_b;
  }
  // The first row of a graph and edge type in a tensor [B, R, N, ..], or ragged.
  int64_t first_row(int64_t b, int64_t r) const { return graphs.graph(b).first_row * batch.R + r * batch.N; }

  // Rows of a tensor [.., N, width] as the compact rows of a graph, which may be lent memory if it is one task.
  void place(RowsViews<T>& views, const Graph& g, const void* data, DType type, int64_t offset,
             int64_t stride_n, int64_t width, bool lent = false) const {
    if (data != nullptr && g.rows == nullptr && type == dtype_of<T>()) {
      views.add_in_place(at(data, type, offset), stride_n);
    } else if (lent && g.bounds == nullptr) {
      views.add_lent(g.n, width);
    } else {
      views.add_copy(g.n, width);
    }
  }

  // Rows [begin, end) of a graph in a tensor [.., N, width], as T.
  void load_rows(T* dst, const void* src, DType type, int64_t stride_n, const Graph& g, int64_t begin,
                 int64_t end, int64_t width) const {
    if (g.rows == nullptr && stride_n == width)
      return kernels.load(dst, at(src, type, begin * width), type, (end - begin) * width);
    for (int64_t i = begin; i < end; ++i) {
      kernels.load(dst + (i - begin) * width, at(src, type, g.row(i) * stride_n), type, width);
    }
  }

  // And back, with zeros behind the `width` elements of a row.
  void store_rows(void* dst, const T* src, DType type, int64_t stride_n, const Graph& g, int64_t begin,
                  int64_t end, int64_t width) const {
    if (g.rows == nullptr && stride_n == width)
      return kernels.store(at(dst, type, begin * width), type, src, (end - begin) * width);
    for (int64_t i = begin; i < end; ++i) {
      void* row = at(dst, type, g.row(i) * stride_n);
      kernels.store(row, type, src + (i - begin) * width, width);
      std::memset(at(row, type, width), 0, static_cast<size_t>((stride_n - width) * element_bytes(type)));
    }
  }

  // Calls zero(begin, end) for every run of rows of the padded graph that are not valid.
  template <typename Zero>
  void for_padding(const Graph& g, const Zero& zero) const {
    if (batch.ptr) return;
    if (g.rows == nullptr) {
      if (g.n < batch.N) zero(g.n, batch.N);
      return;
    }
    int64_t next = 0;
    for (int64_t i = 0; i < batch.N; ++i) {
      if (next < g.n && g.rows[next] == i) {
        ++next;
      } else {
        zero(i, i + 1);
      }
    }
  }
};

}  // namespace hierpool::cpu
