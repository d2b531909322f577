// Building, transposing and inspecting sparse matrices against sorted lists of edges, for one thread and several. Arrays
// have exactly the size that the contracts state, so that the address sanitizer sees every access beyond them.
#include <algorithm>
#include <cmath>
#include <map>
#include <utility>
#include <vector>

#include "cpu/edge_sort.h"
#include "edges.h"
#include "testing.h"

using namespace hierpool;
using namespace hierpool::testing;

namespace {

template <typename I>
using Entries = std::map<std::pair<int64_t, int64_t>, float>;

template <typename I>
Entries<I> sums(const EdgeInputs<I>& p) {
  Entries<I> out;
  for (size_t e = 0; e < p.row.size(); ++e) out[{p.row[e], p.col[e]}] += p.weight.empty() ? 1 : p.weight[e];
  return out;
}

template <typename I>
void expect_matrix(const Matrix<I>& m, const EdgeInputs<I>& p, const Entries<I>& expected) {
  EXPECT(m.built.error.kind == CsrError::none);
  EXPECT(m.col.size() == expected.size());
  const std::vector<float>& value = m.built.as_given ? p.weight : m.value;
  size_t e = 0;
  int64_t row = 0;
  for (const auto& [place, sum] : expected) {
    while (row <= place.first) EXPECT(m.rowptr[row++] == static_cast<I>(e));
    EXPECT(m.col[e] == static_cast<I>(place.second));
    EXPECT(value.empty() ? sum == 1 : value[e] == sum);
    ++e;
  }
  while (row <= p.nodes) EXPECT(m.rowptr[row++] == static_cast<I>(e));
}

template <typename I>
void test_build(int64_t nodes, int64_t edges, bool weighted) {
  EdgeInputs<I> p = draw<I>(nodes, edges, weighted, 3);
  const Entries<I> expected = sums(p);
  const Matrix<I> one = build(p, 1, true, true);
  expect_matrix(one, p, expected);
  EXPECT(one.same_as(build(p, 3, true, true)));
  for (size_t e = 0; !one.built.as_given && e < p.row.size(); ++e) {
    EXPECT(one.col[one.slot[e]] == p.col[e]);
    EXPECT(one.rowptr[p.row[e]] <= one.slot[e]);
    EXPECT(one.slot[e] < one.rowptr[static_cast<size_t>(p.row[e]) + 1]);
  }
  const Matrix<I> kept = build(p, 2, false, true);
  EXPECT(kept.col.size() == p.row.size());
  EXPECT(kept.value.empty());

  // What comes out goes in as it is.
  EdgeInputs<I> sorted{nodes, {}, {}, {}, {0, nodes}};
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
    cpu::csr_transpose(m.csr(), nodes, rowptr.data(), col.data(), source.data(), testing::threads(threads));
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
  EdgeInputs<I> p = draw<I>(nodes, edges, true, 7);
  const size_t half = p.row.size();
  for (size_t e = 0; e < half; ++e) {
    p.row.push_back(p.col[e]), p.col.push_back(p.row[e]), p.weight.push_back(p.weight[e]);
  }
  Matrix<I> m = build(p, 2);
  for (int64_t threads : {1, 3}) {
    EXPECT(cpu::csr_is_symmetric(m.csr(), 4, testing::threads(threads)));
    EXPECT(cpu::csr_is_symmetric(m.csr(false), 4, testing::threads(threads)));
    // One value in one triangle, then one entry of it.
    for (size_t e : {size_t{0}, m.col.size() / 2, m.col.size() - 1}) {
      const auto row =
          std::upper_bound(m.rowptr.begin(), m.rowptr.end(), static_cast<I>(e)) - m.rowptr.begin() - 1;
      if (m.col[e] == static_cast<I>(row)) continue;
      Matrix<I> other = m;
      other.value[e] = std::nextafter(other.value[e], 9.0F);
      EXPECT(!cpu::csr_is_symmetric(other.csr(), 4, testing::threads(threads)));
      EXPECT(cpu::csr_is_symmetric(other.csr(false), 4, testing::threads(threads)));
      other.col.erase(other.col.begin() + static_cast<int64_t>(e));
      for (auto i = static_cast<size_t>(row) + 1; i < other.rowptr.size(); ++i) --other.rowptr[i];
      EXPECT(!cpu::csr_is_symmetric(other.csr(false), 4, testing::threads(threads)));
    }
  }
}

void test_errors() {
  const auto found = [](EdgeInputs<int32_t> p) { return build(p, 2).built.error; };
  const auto inspected = [](std::vector<int32_t> rowptr, std::vector<int32_t> col, std::vector<int64_t> ptr) {
    const Csr a{static_cast<int64_t>(rowptr.size()) - 1, false, rowptr.data(), col.data(), nullptr};
    return cpu::csr_inspect(a, static_cast<int64_t>(col.size()), static_cast<int64_t>(ptr.size()) - 1,
                            ptr.data(), testing::threads(2));
  };
  EXPECT(found({3, {0, 3}, {0, 0}, {}, {0, 3}}).kind == CsrError::row_range);
  EXPECT(found({3, {0, 1}, {0, -1}, {}, {0, 3}}).kind == CsrError::column_range);
  EXPECT(found({3, {0, 1}, {0, -1}, {}, {0, 3}}).first == 1);
  for (const auto& order : {std::pair{0, 1}, std::pair{1, 0}}) {  // sorted and not
    const std::vector<int32_t> rows{0, 1}, cols{1, 2};
    const auto [a, b] = order;
    const EdgeInputs<int32_t> p{3, {rows[a], rows[b]}, {cols[a], cols[b]}, {}, {0, 2, 2, 3}};
    EXPECT(found(p).kind == CsrError::crossing);
    EXPECT(found(p).first == 1 && found(p).second == 2);
  }
  EXPECT(inspected({0, 1, 2}, {1, 0}, {0, 2}).canonical);
  EXPECT(!inspected({0, 2, 2}, {1, 0}, {0, 2}).canonical);
  EXPECT(!inspected({0, 2, 2}, {1, 1}, {0, 2}).canonical);
  EXPECT(inspected({0, 2, 1}, {1, 0}, {0, 2}).error.kind == CsrError::row_pointer);
  EXPECT(inspected({0, 1, 3}, {1, 0}, {0, 2}).error.kind == CsrError::row_pointer);
  EXPECT(inspected({0, 1, 2}, {1, 2}, {0, 2}).error.kind == CsrError::column_range);
  EXPECT(inspected({0, 1, 2}, {1, 0}, {0, 1, 2}).error.kind == CsrError::crossing);
  EXPECT(inspected({0, 1, 2}, {1, 0}, {0, 1}).error.kind == CsrError::graph_pointer);
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
  const EdgeInputs<int64_t>& p;
  int64_t nodes() const { return p.nodes; }
  int64_t edges() const { return static_cast<int64_t>(p.row.size()); }
  template <typename F>
  void each(int64_t begin, int64_t end, const F& f) const {
    for (int64_t e = begin; e < end; ++e) {
      f(p.row[e], p.col[e], e);
    }
  }
};

// Edges whose numbers do not fit in one word are sorted in the same way.
void test_two_words() {
  const EdgeInputs<int64_t> p = draw<int64_t>(600, 30000, false, 11);
  const cpu::Layout layout{6, 10, 15};
  cpu::SortedEdges<cpu::OneWord> one(List{p}, layout, 6, testing::threads(2));
  cpu::SortedEdges<cpu::TwoWords> two(List{p}, layout, 6, testing::threads(2));
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

// Blocks of a rectangular matrix, of which one has no row, one no column, and one is taken twice.
template <typename I>
void test_blocks() {
  const std::vector<I> rowptr{0, 2, 2, 3, 5}, col{0, 1, 2, 4, 5};
  const std::vector<int64_t> ptr{0, 2, 2, 3, 4}, col_ptr{0, 2, 3, 3, 6}, index{3, 0, 1, 3};
  // Block 2 has an entry in no column of its own, and is not taken.
  const CsrBlocks blocks{{4, sizeof(I) == 8, rowptr.data(), col.data(), nullptr},
                         ptr.data(),
                         col_ptr.data(),
                         static_cast<int64_t>(index.size()),
                         index.data()};
  const CsrBlocksSize size = cpu::csr_blocks_size(blocks);
  EXPECT(size.rows == 4 && size.entries == 6);
  std::vector<int64_t> out_ptr(5), out_col_ptr(5), row(4), entry(6);
  std::vector<I> out_rowptr(5), out_col(6);
  for (int64_t* const entries : {entry.data(), static_cast<int64_t*>(nullptr)}) {
    cpu::csr_blocks(blocks, out_ptr.data(), out_col_ptr.data(), out_rowptr.data(), out_col.data(), row.data(),
                    entries);
  }
  EXPECT((out_ptr == std::vector<int64_t>{0, 1, 3, 3, 4}));
  EXPECT((out_col_ptr == std::vector<int64_t>{0, 3, 5, 6, 9}));
  EXPECT((out_rowptr == std::vector<I>{0, 2, 4, 4, 6}));
  EXPECT((out_col == std::vector<I>{1, 2, 3, 4, 7, 8}));
  EXPECT((row == std::vector<int64_t>{3, 0, 1, 3}));
  EXPECT((entry == std::vector<int64_t>{3, 4, 0, 1, 3, 4}));
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
}

template <typename I>
void test_ranges() {
  std::vector<I> offsets{5}, expected;
  for (I r = 0; r < 3000; ++r) {
    const I size = r % 7 == 3 ? 0 : r == 9 ? 200000 : r % 5;
    offsets.push_back(offsets.back() + size);
    expected.insert(expected.end(), static_cast<size_t>(size), r);
  }
  for (const int64_t threads : {1, 3}) {
    std::vector<I> range(expected.size());
    cpu::csr_ranges(3000, sizeof(I) == 8, offsets.data(), range.data(), testing::threads(threads));
    EXPECT(range == expected);
  }
}

}  // namespace

TEST(graph_build_ranges) {
  test_ranges<int32_t>();
  test_ranges<int64_t>();
}

TEST(graph_build_blocks) {
  test_blocks<int32_t>();
  test_blocks<int64_t>();
}

TEST(graph_build) {
  test_indices<int32_t>();
  test_indices<int64_t>();
  test_two_words();
}

TEST(graph_build_checks) {
  test_errors();
  test_batch();
}
