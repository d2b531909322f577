// The valid rows of a batch as GraphSAGE layers see them, and products with its adjacency.
#pragma once

#include <algorithm>
#include <vector>

#include "cpu/csr_rows.h"
#include "cpu/matrix_products.h"
#include "hierpool/sage_stack.h"

namespace hierpool::cpu {

// The valid nodes of all graphs, one after the other.
class StackRows {
 public:
  explicit StackRows(const SageGraphs& g) : nodes_(g.nodes) {
    count_ = padded_ = g.sparse ? g.sparse->rows : g.graphs * g.nodes;
    if (g.sparse) return;
    if (g.valid == nullptr) {
      for (int64_t b = 0; b <= g.graphs; ++b) first_.push_back(b * g.nodes);
      return;
    }
    first_.push_back(0);
    for (int64_t b = 0; b < g.graphs; ++b) {
      for (int64_t i = b * g.nodes; i < (b + 1) * g.nodes; ++i) {
        if (g.valid[i]) place_.push_back(i);
      }
      first_.push_back(static_cast<int64_t>(place_.size()));
    }
    count_ = first_.back();
    if (count_ == padded_) place_.clear();
  }

  int64_t count() const { return count_; }
  bool are_all() const { return count_ == padded_; }
  int64_t place(int64_t i) const { return place_.empty() ? i : place_[static_cast<size_t>(i)]; }

  // Of padded batches: the first row of a graph, its rows, and which nodes they are.
  int64_t graphs() const { return static_cast<int64_t>(first_.size()) - 1; }
  int64_t first(int64_t b) const { return first_[static_cast<size_t>(b)]; }
  int64_t size(int64_t b) const { return first(b + 1) - first(b); }
  int64_t node(int64_t b, int64_t i) const { return place(first(b) + i) - b * nodes_; }
  bool has_holes(int64_t b) const { return size(b) > 0 && node(b, size(b) - 1) != size(b) - 1; }

  // run(first, last) for the rows of a padded batch that are not valid.
  template <typename Run>
  void for_padding(const Run& run) const {
    if (are_all()) return;
    int64_t next = 0;
    for (const int64_t i : place_) {
      if (next < i) run(next, i);
      next = i + 1;
    }
    if (next < padded_) run(next, padded_);
  }

 private:
  int64_t nodes_, count_, padded_;
  std::vector<int64_t> place_;  // empty: all rows are valid
  std::vector<int64_t> first_;
};

// One graph of a padded batch: its matrix without padding.
template <typename T>
struct DenseBlock {
  const T* data;
  int64_t ld;
};

// A, and the divisors D.
template <typename T>
class StackGraphs {
 public:
  StackGraphs(const SageStack& stack, const StackRows& rows, const MatrixProducts<T>& products,
              const Runtime& runtime)
      : graphs_(stack.graphs), rows_(rows), products_(products), runtime_(runtime) {
    if (!graphs_.sparse) find_blocks();
    if (stack.mean) find_shares();
  }

  // 1 / D of each row; null: 1
  const T* shares() const { return shares_.data(); }
  // Whether D is the degree of the row, and not 1 because that is smaller.
  bool divides_by_degree(int64_t i) const { return by_degree_[static_cast<size_t>(i)] != 0; }
  const StackRows& rows() const { return rows_; }
  const DenseBlock<T>& block(int64_t b) const { return blocks_[static_cast<size_t>(b)]; }

  // A or A^T times x[R, ld], n elements of each row.
  class Product {
   public:
    Product(const StackGraphs& owner, const T* x, int64_t ld, int64_t n, bool transposed)
        : owner_(owner), x_(x), ld_(ld), n_(n), transposed_(transposed) {
      const SageGraphs& g = owner.graphs_;
      if (!g.sparse) return;
      sparse_.emplace_back(transposed ? *g.transposed : *g.sparse, owner.products_.kernels);
      hubs_ = sparse_[0].multiply_hubs(owner.runtime_, n, x, ld, 0, g.sparse->rows);
    }

    // Its rows [begin, end).
    void write(T* out, int64_t ld_out, int64_t begin, int64_t end) const {
      if (begin == end) return;
      if (!sparse_.empty()) return sparse_[0].multiply(out, ld_out, n_, x_, ld_, begin, end, hubs_);
      const StackRows& rows = owner_.rows_;
      for (int64_t b = owner_.graph_of(begin); begin < end; ++b) {
        const int64_t first = rows.first(b), size = rows.size(b);
        const int64_t last = std::min(end, first + size), count = last - begin, i = begin - first;
        if (count <= 0) continue;
        const auto [a, lda] = owner_.block(b);
        const T* x = x_ + first * ld_;
        if (transposed_) {
          owner_.products_.product_of_transposed(count, n_, size, a + i, lda, x, ld_, out, ld_out, false);
        } else {
          owner_.products_.product(count, n_, size, a + i * lda, lda, x, ld_, out, ld_out, false);
        }
        out += count * ld_out;
        begin = last;
      }
    }

   private:
    const StackGraphs& owner_;
    const T* x_;
    int64_t ld_, n_;
    bool transposed_;
    std::vector<CsrProduct<T>> sparse_;
    typename CsrProduct<T>::Hubs hubs_;
  };

 private:
  // The graph of a row.
  int64_t graph_of(int64_t row) const {
    int64_t low = 0, high = rows_.graphs();
    while (high - low > 1) {
      const int64_t middle = low + (high - low) / 2;
      rows_.first(middle) <= row ? low = middle : high = middle;
    }
    return low;
  }

  void find_blocks() {
    const auto* dense = static_cast<const T*>(graphs_.dense);
    int64_t packed = 0;
    for (int64_t b = 0; b < rows_.graphs(); ++b) {
      blocks_.push_back({dense + b * graphs_.graph_stride, graphs_.nodes});
      if (rows_.has_holes(b)) packed += rows_.size(b) * rows_.size(b);
    }
    if (packed == 0) return;
    packed_ = Buffer<T>(packed);
    T* next = packed_.data();
    for (int64_t b = 0; b < rows_.graphs(); ++b) {
      if (!rows_.has_holes(b)) continue;
      const int64_t size = rows_.size(b);
      DenseBlock<T>& block = blocks_[static_cast<size_t>(b)];
      for (int64_t i = 0; i < size; ++i) {
        const T* row = block.data + rows_.node(b, i) * block.ld;
        for (int64_t j = 0; j < size; ++j) next[i * size + j] = row[rows_.node(b, j)];
      }
      block = {next, size};
      next += size * size;
    }
  }

  void find_shares() {
    shares_ = Buffer<T>(rows_.count());
    by_degree_.resize(static_cast<size_t>(rows_.count()));
    const auto set = [&](int64_t i, T degree) {
      by_degree_[static_cast<size_t>(i)] = degree >= T(1);
      shares_.data()[i] = T(1) / (degree < T(1) ? T(1) : degree);  // NaN stays
    };
    if (graphs_.sparse) {
      const CsrRows<T> a(*graphs_.sparse, products_.kernels);
      for (int64_t i = 0; i < rows_.count(); ++i) {
        double degree = a.values() ? 0 : static_cast<double>(a.entries(i, i + 1));
        for (int64_t e = a.row_begin(i); a.values() && e < a.row_begin(i + 1); ++e) degree += a.values()[e];
        set(i, static_cast<T>(degree));
      }
      return;
    }
    for (int64_t b = 0; b < rows_.graphs(); ++b) {
      const auto [data, ld] = block(b);
      for (int64_t i = 0; i < rows_.size(b); ++i) {
        set(rows_.first(b) + i, products_.kernels.stats(data + i * ld, rows_.size(b)).sum);
      }
    }
  }

  const SageGraphs& graphs_;
  const StackRows& rows_;
  const MatrixProducts<T>& products_;
  const Runtime& runtime_;
  std::vector<DenseBlock<T>> blocks_;
  Buffer<T> packed_;
  Buffer<T> shares_;
  std::vector<uint8_t> by_degree_;
};

}  // namespace hierpool::cpu
