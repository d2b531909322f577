// Building, transposing and inspecting sparse matrices against sorted lists of edges, for one thread and several; and
// products with them, for every instruction set this machine has. Arrays have exactly the size that the contracts
// state, so that the address sanitizer sees every access beyond them.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "cpu/csr_sort.h"
#include "cpu/isa.h"
#include "expect.h"
#include "hierpool/csr_build.h"
#include "hierpool/spmm.h"
#include "soft_pool_problem.h"

using namespace hierpool;
using hierpool::testing::runtime;

namespace {

template <typename I>
struct Problem {
  int64_t nodes;
  std::vector<I> row, col;
  std::vector<float> weight;
  std::vector<int64_t> ptr;
};

template <typename I>
struct Matrix {
  std::vector<I> rowptr, col, slot;
  std::vector<float> value;
  CsrBuilt built;

  static void* allocate(void* context, CsrBuild::Output output, int64_t count) {
    auto& self = *static_cast<Matrix*>(context);
    const auto size = static_cast<size_t>(count);
    switch (output) {
      case CsrBuild::rowptr: self.rowptr.resize(size); return self.rowptr.data();
      case CsrBuild::col: self.col.resize(size); return self.col.data();
      case CsrBuild::slot: self.slot.resize(size); return self.slot.data();
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
Matrix<I> build(const Problem<I>& p, int64_t threads, bool merge = true, bool want_slot = false) {
  Matrix<I> out;
  CsrBuild b{};
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
  b.merge = merge, b.want_slot = want_slot, b.wide_index = sizeof(I) == 8;
  b.allocate = Matrix<I>::allocate, b.context = &out;
  out.built = cpu::csr_build(b, runtime(threads, false));
  return out;
}

// Weights are small whole numbers, whose sums are exact.
template <typename I>
Problem<I> draw(int64_t nodes, int64_t edges, bool weighted, unsigned seed) {
  std::mt19937 random(seed);
  Problem<I> p{nodes, {}, {}, {}, {0, nodes}};
  std::uniform_int_distribution<int64_t> node(0, std::max<int64_t>(nodes - 1, 0)), whole(1, 4);
  for (int64_t e = 0; e < edges; ++e) {
    p.row.push_back(static_cast<I>(e % 5 == 0 ? nodes / 2 : node(random)));  // a hub among them
    p.col.push_back(static_cast<I>(node(random)));
    if (weighted) p.weight.push_back(static_cast<float>(whole(random)));
  }
  return p;
}

template <typename I>
using Entries = std::map<std::pair<int64_t, int64_t>, float>;

template <typename I>
Entries<I> sums(const Problem<I>& p) {
  Entries<I> out;
  for (size_t e = 0; e < p.row.size(); ++e) out[{p.row[e], p.col[e]}] += p.weight.empty() ? 1 : p.weight[e];
  return out;
}

template <typename I>
void expect_matrix(const Matrix<I>& m, const Problem<I>& p, const Entries<I>& expected) {
  EXPECT(m.built.problem.kind == CsrProblem::none);
  EXPECT(m.col.size() == expected.size());
  const std::vector<float>& value = m.built.as_given ? p.weight : m.value;
  size_t e = 0;
  int64_t row = 0;
  for (const auto& [place, sum] : expected) {
    while (row <= place.first) EXPECT(m.rowptr[static_cast<size_t>(row++)] == static_cast<I>(e));
    EXPECT(m.col[e] == static_cast<I>(place.second));
    EXPECT(value.empty() ? sum == 1 : value[e] == sum);
    ++e;
  }
  while (row <= p.nodes) EXPECT(m.rowptr[static_cast<size_t>(row++)] == static_cast<I>(e));
}

template <typename I>
void test_build(int64_t nodes, int64_t edges, bool weighted) {
  Problem<I> p = draw<I>(nodes, edges, weighted, 3);
  const Entries<I> expected = sums(p);
  const Matrix<I> one = build(p, 1, true, true);
  expect_matrix(one, p, expected);
  EXPECT(one.same_as(build(p, 3, true, true)));
  for (size_t e = 0; !one.built.as_given && e < p.row.size(); ++e) {
    EXPECT(one.col[static_cast<size_t>(one.slot[e])] == p.col[e]);
    EXPECT(one.rowptr[static_cast<size_t>(p.row[e])] <= one.slot[e]);
    EXPECT(one.slot[e] < one.rowptr[static_cast<size_t>(p.row[e]) + 1]);
  }
  const Matrix<I> kept = build(p, 2, false, true);
  EXPECT(kept.col.size() == p.row.size());
  EXPECT(kept.value.empty());

  // What comes out goes in as it is.
  Problem<I> sorted{nodes, {}, {}, {}, {0, nodes}};
  for (const auto& [place, sum] : expected) {
    sorted.row.push_back(static_cast<I>(place.first));
    sorted.col.push_back(static_cast<I>(place.second));
    sorted.weight.push_back(sum);
  }
  const Matrix<I> again = build(sorted, 2);
  EXPECT(again.built.as_given);
  expect_matrix(again, sorted, expected);
}

template <typename I>
void test_transpose(int64_t nodes, int64_t edges) {
  const Matrix<I> m = build(draw<I>(nodes, edges, true, 5), 2);
  for (int64_t threads : {1, 3}) {
    std::vector<I> rowptr(m.rowptr.size()), col(m.col.size()), source(m.col.size());
    cpu::csr_transpose(m.csr(), nodes, rowptr.data(), col.data(), source.data(), runtime(threads, false));
    EXPECT(rowptr.back() == m.rowptr.back());
    for (size_t i = 0; i + 1 < rowptr.size(); ++i) {
      for (auto e = static_cast<size_t>(rowptr[i]); e < static_cast<size_t>(rowptr[i + 1]); ++e) {
        const auto from = static_cast<size_t>(source[e]), row = static_cast<size_t>(col[e]);
        EXPECT(m.col[from] == static_cast<I>(i));
        EXPECT(m.rowptr[row] <= source[e] && source[e] < m.rowptr[row + 1]);
        EXPECT(e == static_cast<size_t>(rowptr[i]) || col[e - 1] < col[e]);
      }
    }
  }
}

template <typename I>
void test_symmetry(int64_t nodes, int64_t edges) {
  Problem<I> p = draw<I>(nodes, edges, true, 7);
  const size_t half = p.row.size();
  for (size_t e = 0; e < half; ++e) {
    p.row.push_back(p.col[e]), p.col.push_back(p.row[e]), p.weight.push_back(p.weight[e]);
  }
  Matrix<I> m = build(p, 2);
  for (int64_t threads : {1, 3}) {
    EXPECT(cpu::csr_is_symmetric(m.csr(), 4, runtime(threads, false)));
    EXPECT(cpu::csr_is_symmetric(m.csr(false), 4, runtime(threads, false)));
    // One value in one triangle, then one entry of it.
    for (size_t e : {size_t{0}, m.col.size() / 2, m.col.size() - 1}) {
      const auto row =
          std::upper_bound(m.rowptr.begin(), m.rowptr.end(), static_cast<I>(e)) - m.rowptr.begin() - 1;
      if (m.col[e] == static_cast<I>(row)) continue;
      Matrix<I> other = m;
      other.value[e] = std::nextafter(other.value[e], 9.0F);
      EXPECT(!cpu::csr_is_symmetric(other.csr(), 4, runtime(threads, false)));
      EXPECT(cpu::csr_is_symmetric(other.csr(false), 4, runtime(threads, false)));
      other.col.erase(other.col.begin() + static_cast<int64_t>(e));
      for (auto i = static_cast<size_t>(row) + 1; i < other.rowptr.size(); ++i) --other.rowptr[i];
      EXPECT(!cpu::csr_is_symmetric(other.csr(false), 4, runtime(threads, false)));
    }
  }
}

void test_problems() {
  const auto found = [](Problem<int32_t> p) { return build(p, 2).built.problem; };
  const auto inspected = [](std::vector<int32_t> rowptr, std::vector<int32_t> col, std::vector<int64_t> ptr) {
    const Csr a{static_cast<int64_t>(rowptr.size()) - 1, false, rowptr.data(), col.data(), nullptr};
    return cpu::csr_inspect(a, static_cast<int64_t>(col.size()), static_cast<int64_t>(ptr.size()) - 1,
                            ptr.data(), runtime(2, false));
  };
  EXPECT(found({3, {0, 3}, {0, 0}, {}, {0, 3}}).kind == CsrProblem::row_range);
  EXPECT(found({3, {0, 1}, {0, -1}, {}, {0, 3}}).kind == CsrProblem::column_range);
  EXPECT(found({3, {0, 1}, {0, -1}, {}, {0, 3}}).first == 1);
  for (const auto& order : {std::pair{0, 1}, std::pair{1, 0}}) {  // sorted and not
    const std::vector<int32_t> rows{0, 1}, cols{1, 2};
    const auto [a, b] = order;
    const Problem<int32_t> p{3, {rows[a], rows[b]}, {cols[a], cols[b]}, {}, {0, 2, 2, 3}};
    EXPECT(found(p).kind == CsrProblem::crossing);
    EXPECT(found(p).first == 1 && found(p).second == 2);
  }
  EXPECT(inspected({0, 1, 2}, {1, 0}, {0, 2}).canonical);
  EXPECT(!inspected({0, 2, 2}, {1, 0}, {0, 2}).canonical);
  EXPECT(!inspected({0, 2, 2}, {1, 1}, {0, 2}).canonical);
  EXPECT(inspected({0, 2, 1}, {1, 0}, {0, 2}).problem.kind == CsrProblem::row_pointer);
  EXPECT(inspected({0, 1, 3}, {1, 0}, {0, 2}).problem.kind == CsrProblem::row_pointer);
  EXPECT(inspected({0, 1, 2}, {1, 2}, {0, 2}).problem.kind == CsrProblem::column_range);
  EXPECT(inspected({0, 1, 2}, {1, 0}, {0, 1, 2}).problem.kind == CsrProblem::crossing);
  EXPECT(inspected({0, 1, 2}, {1, 0}, {0, 1}).problem.kind == CsrProblem::graph_pointer);
}

void test_batch() {
  const std::vector<int64_t> batch{2, 0, 2, 0, 3};
  std::vector<int64_t> ptr(6), order(5), rank(5);
  EXPECT(!cpu::csr_sort_batch(5, batch.data(), 5, ptr.data(), order.data(), rank.data()));
  EXPECT((ptr == std::vector<int64_t>{0, 2, 2, 4, 5, 5}));
  EXPECT((order == std::vector<int64_t>{1, 3, 0, 2, 4}));
  EXPECT((rank == std::vector<int64_t>{2, 0, 3, 1, 4}));
  const std::vector<int64_t> sorted{0, 0, 2};
  EXPECT(cpu::csr_sort_batch(3, sorted.data(), 3, ptr.data(), order.data(), rank.data()));
  EXPECT(ptr[1] == 2 && ptr[2] == 2 && ptr[3] == 3);
}

struct List {
  const Problem<int64_t>& p;
  int64_t nodes() const { return p.nodes; }
  int64_t edges() const { return static_cast<int64_t>(p.row.size()); }
  template <typename F>
  void each(int64_t begin, int64_t end, const F& f) const {
    for (int64_t e = begin; e < end; ++e) {
      f(p.row[static_cast<size_t>(e)], p.col[static_cast<size_t>(e)], e);
    }
  }
};

// Edges whose numbers do not fit in one word are sorted in the same way.
void test_two_words() {
  const Problem<int64_t> p = draw<int64_t>(600, 30000, false, 11);
  const cpu::Layout layout{6, 10, 15};
  cpu::SortedEdges<cpu::OneWord> one(List{p}, layout, 6, runtime(2, false));
  cpu::SortedEdges<cpu::TwoWords> two(List{p}, layout, 6, runtime(2, false));
  EXPECT(one.blocks() == 10 && two.blocks() == 10);
  for (int64_t block = 0; block < 10; ++block) EXPECT(one.sort_block(block) == two.sort_block(block));
  for (int64_t e = 0; e < 30000; ++e) {
    const auto& a = one.items()[e];
    const auto& b = two.items()[e];
    EXPECT(a.place(layout) == b.place(layout) && a.id(layout) == b.id(layout));
  }
  EXPECT(!(cpu::Layout{31, 31, 2}.fits_in_one_word()));
  EXPECT((cpu::Layout{20, 20, 23}.fits_in_one_word()));
}

template <typename T, typename I>
void test_products(int64_t nodes, int64_t edges, int64_t n) {
  const Matrix<I> m = build(draw<I>(nodes, edges, true, 13), 2);
  const std::vector<T> value(m.value.begin(), m.value.end());
  std::vector<T> x(static_cast<size_t>(nodes * n)), left(x.size());
  std::mt19937 random(17);
  std::uniform_real_distribution<T> uniform(-1, 1);
  for (T& element : x) element = uniform(random);
  for (T& element : left) element = uniform(random);
  for (const bool weighted : {true, false}) {
    const Spmm product{
        {nodes, sizeof(I) == 8, m.rowptr.data(), m.col.data(), weighted ? value.data() : nullptr},
        sizeof(T) == 8,
        n};
    std::vector<T> out(x.size()), sampled(m.col.size()), again(x.size()), sampled_again(m.col.size());
    cpu::spmm(product, {x.data(), n}, out.data(), runtime(1, false));
    cpu::sampled_product(product, {left.data(), n}, {x.data(), n}, sampled.data(), runtime(1, false));
    cpu::spmm(product, {x.data(), n}, again.data(), runtime(3, false));
    cpu::sampled_product(product, {left.data(), n}, {x.data(), n}, sampled_again.data(), runtime(3, false));
    EXPECT(out == again && sampled == sampled_again);
    const double tolerance = sizeof(T) == 8 ? 1e-13 : 1e-5;
    for (int64_t i = 0; i < nodes; ++i) {
      const auto begin = static_cast<size_t>(m.rowptr[static_cast<size_t>(i)]);
      const auto end = static_cast<size_t>(m.rowptr[static_cast<size_t>(i) + 1]);
      for (int64_t k = 0; k < n; ++k) {
        double sum = 0, scale = 0;
        for (size_t e = begin; e < end; ++e) {
          const double term = (weighted ? double(value[e]) : 1) * x[static_cast<size_t>(m.col[e] * n + k)];
          sum += term, scale += std::abs(term);
        }
        EXPECT(std::abs(out[static_cast<size_t>(i * n + k)] - sum) <= tolerance * scale);
      }
      for (size_t e = begin; e < end; ++e) {
        double sum = 0;
        for (int64_t k = 0; k < n; ++k) {
          sum += double(left[static_cast<size_t>(i * n + k)]) * x[static_cast<size_t>(m.col[e] * n + k)];
        }
        EXPECT(std::abs(sampled[e] - sum) <= tolerance * static_cast<double>(n));
      }
    }
  }
}

template <typename I>
void test_indices() {
  for (const bool weighted : {false, true}) {
    for (const auto& [nodes, edges] : {std::pair<int64_t, int64_t>{0, 0},
                                       {1, 0},
                                       {1, 3},
                                       {5, 1},
                                       {7, 40},
                                       {300, 900},
                                       {90000, 70000},
                                       {2000, 200000}}) {
      test_build<I>(nodes, edges, weighted);
    }
  }
  for (const auto& [nodes, edges] : {std::pair<int64_t, int64_t>{1, 0}, {7, 40}, {3000, 150000}}) {
    test_transpose<I>(nodes, edges);
    if (edges) test_symmetry<I>(nodes, edges);
  }
  for (cpu::Isa isa : cpu::supported_isas()) {
    setenv("HIERPOOL_CPU_ISA", std::string(cpu::isa_name(isa)).c_str(), 1);
    for (const int64_t n : {1, 7, 33}) {
      test_products<float, I>(50, 300, n);
      test_products<double, I>(50, 300, n);
    }
    test_products<float, I>(80000, 400000, 2);  // whose hub has more entries than one task
  }
  unsetenv("HIERPOOL_CPU_ISA");
}

}  // namespace

int main() {
  test_indices<int32_t>();
  test_indices<int64_t>();
  test_problems();
  test_batch();
  test_two_words();
  return 0;
}
