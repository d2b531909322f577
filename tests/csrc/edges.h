// Edges, and the sparse matrix that is built from them, in vectors of exactly the size that the contract states.
#pragma once

#include <algorithm>
#include <random>
#include <vector>

#include "hierpool/graph_build.h"
#include "testing.h"

namespace hierpool::testing {

template <typename I>
struct EdgeInputs {
  int64_t nodes;
  std::vector<I> row, col;
  std::vector<float> weight;
  std::vector<int64_t> ptr;
};

template <typename I>
struct Matrix {
  std::vector<I> rowptr, col, slot;
  std::vector<float> value;
  BuiltGraph built;

  static void* allocate(void* context, GraphBuild::Output output, int64_t count) {
    auto& self = *static_cast<Matrix*>(context);
    const auto size = static_cast<size_t>(count);
    switch (output) {
      case GraphBuild::rowptr: self.rowptr.resize(size); return self.rowptr.data();
      case GraphBuild::col: self.col.resize(size); return self.col.data();
      case GraphBuild::slot: self.slot.resize(size); return self.slot.data();
      default: self.value.resize(size); return self.value.data();
    }
  }
  Csr csr(bool with_value = true) const {
    return {static_cast<int64_t>(rowptr.size()) - 1, sizeof(I) == 8, rowptr.data(), col.data(),
            with_value && !value.empty() ? value.data() : nullptr};
  }
  bool same_as(const Matrix& other) const {
    return rowptr == other.rowptr && col == other.col && slot == other.slot && value == other.value;
  }
};

template <typename I>
Matrix<I> build(const EdgeInputs<I>& p, int64_t threads, bool merge = true, bool want_slot = false) {
  Matrix<I> out;
  GraphBuild b{};
  b.edges = {p.nodes,
             static_cast<int64_t>(p.row.size()),
             sizeof(I) == 8,
             p.row.data(),
             p.col.data(),
             nullptr,
             static_cast<int64_t>(p.ptr.size()) - 1,
             p.ptr.data(),
             false,
             p.weight.empty() ? nullptr : p.weight.data()};
  b.merge = merge, b.want_slot = want_slot, b.int64_index = sizeof(I) == 8;
  b.allocate = Matrix<I>::allocate, b.context = &out;
  out.built = cpu::csr_build(b, testing::threads(threads));
  return out;
}

// Weights are small whole numbers, whose sums are exact.
template <typename I>
EdgeInputs<I> draw(int64_t nodes, int64_t edges, bool weighted, unsigned seed) {
  std::mt19937 random(seed);
  EdgeInputs<I> p{nodes, {}, {}, {}, {0, nodes}};
  std::uniform_int_distribution<int64_t> node(0, std::max<int64_t>(nodes - 1, 0)), whole(1, 4);
  for (int64_t e = 0; e < edges; ++e) {
    p.row.push_back(static_cast<I>(e % 5 == 0 ? nodes / 2 : node(random)));  // a hub among them
    p.col.push_back(static_cast<I>(node(random)));
    if (weighted) p.weight.push_back(static_cast<float>(whole(random)));
  }
  return p;
}

}  // namespace hierpool::testing
