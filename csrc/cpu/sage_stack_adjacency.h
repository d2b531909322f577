// The gradient of the adjacency of a stack of GraphSAGE layers.
#pragma once

#include "cpu/sage_stack_graphs.h"

namespace hierpool::cpu {

// A sum of products <left_i, right_j> at the entries (i, j) of A, and the gradient of D that follows from it.
template <typename T>
class AdjacencyGradient {
 public:
  AdjacencyGradient(const SageStack& stack, const StackRows& rows, const StackGraphs<T>& graphs,
                    const MatrixProducts<T>& products, const Runtime& runtime)
      : stack_(stack), rows_(rows), graphs_(graphs), products_(products), runtime_(runtime) {
    if (stack.graphs.sparse) {
      const CsrRows<T> a(*stack.graphs.sparse, products.kernels);
      size_ = a.row_begin(stack.graphs.sparse->rows);
    } else {
      for (int64_t b = 0; b < rows.graphs(); ++b) {
        offsets_.push_back(size_);
        size_ += rows.size(b) * rows.size(b);
        for (int64_t i = 0; i < rows.size(b); i += kTileRows) tiles_.push_back({b, i});
      }
    }
    sums_ = Buffer<T>(size_);
    std::fill_n(sums_.data(), size_, T(0));
  }

  // left and right [R, n]
  void add(const T* left, const T* right, int64_t n) {
    stack_.graphs.sparse ? add_sparse(left, right, n) : add_dense(left, right, n);
  }

  // out[entries] or [graphs, nodes, nodes]
  void write(T* out) {
    if (stack_.graphs.sparse) {
      const CsrRows<T> a(*stack_.graphs.sparse, products_.kernels);
      for (int64_t i = 0; i < rows_.count(); ++i) {
        const int64_t first = a.row_begin(i), count = a.entries(i, i + 1);
        subtract(i, a.values() + first, sums_.data() + first, count);
      }
      std::copy_n(sums_.data(), size_, out);
      return;
    }
    const int64_t nodes = stack_.graphs.nodes;
    run_tasks(runtime_, rows_.graphs(), [&](int64_t b, int64_t) {
      std::fill_n(out + b * nodes * nodes, nodes * nodes, T(0));
      const int64_t size = rows_.size(b);
      const auto [data, ld] = graphs_.block(b);
      T* sums = sums_.data() + offsets_[static_cast<size_t>(b)];
      for (int64_t i = 0; i < size; ++i, sums += size) {
        subtract(rows_.first(b) + i, data + i * ld, sums, size);
        T* row = out + (b * nodes + rows_.node(b, i)) * nodes;
        for (int64_t j = 0; j < size; ++j) row[rows_.node(b, j)] = sums[j];
      }
    });
  }

 private:
  static constexpr int64_t kTileRows = 256;

  // The gradient of the degree of row i, whose `count` entries and sums are given.
  void subtract(int64_t i, const T* entries, T* sums, int64_t count) const {
    if (!stack_.mean || !graphs_.divides_by_degree(i)) return;
    const T along = products_.kernels.dot(entries, sums, count) * graphs_.shares()[i];
    for (int64_t j = 0; j < count; ++j) sums[j] -= along;
  }

  void add_sparse(const T* left, const T* right, int64_t n) {
    const CsrProduct<T> a(*stack_.graphs.sparse, products_.kernels);
    const Buffer<T> found(size_);
    std::vector<typename CsrProduct<T>::Part> parts;
    a.add_parts(parts, 0, rows_.count(), kTileRows);
    run_tasks(runtime_, static_cast<int64_t>(parts.size()), [&](int64_t task, int64_t) {
      const auto& part = parts[static_cast<size_t>(task)];
      const T* first = left + part.row * n;
      if (a.is_hub(part.row)) {
        a.sampled_part(found.data(), n, first, right, n, part.entry, part.last_entry);
      } else {
        a.sampled(found.data(), n, first, n, right, n, part.row, part.last_row);
      }
      products_.kernels.axpy(sums_.data() + part.entry, T(1), found.data() + part.entry,
                             part.last_entry - part.entry);
    });
  }

  void add_dense(const T* left, const T* right, int64_t n) {
    const Buffer<T> turned(rows_.count() * n);
    run_tasks(runtime_, rows_.graphs(), [&](int64_t b, int64_t) {
      const int64_t from = rows_.first(b) * n;
      products_.kernels.transpose(turned.data() + from, right + from, n, rows_.size(b), n);
    });
    run_tasks(runtime_, static_cast<int64_t>(tiles_.size()), [&](int64_t t, int64_t) {
      const auto [b, begin] = tiles_[static_cast<size_t>(t)];
      const int64_t size = rows_.size(b), count = std::min(kTileRows, size - begin);
      products_.product(count, size, n, left + (rows_.first(b) + begin) * n, n,
                        turned.data() + rows_.first(b) * n, size,
                        sums_.data() + offsets_[static_cast<size_t>(b)] + begin * size, size, true);
    });
  }

  struct Tile {
    int64_t graph, row;
  };

  const SageStack& stack_;
  const StackRows& rows_;
  const StackGraphs<T>& graphs_;
  const MatrixProducts<T>& products_;
  const Runtime& runtime_;
  int64_t size_ = 0;
  std::vector<int64_t> offsets_;
  std::vector<Tile> tiles_;
  Buffer<T> sums_;
};

}  // namespace hierpool::cpu
