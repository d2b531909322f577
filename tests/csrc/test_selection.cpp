// Selection of nodes and pairs against plain passes over sorted lists, for one thread and several.
#include <algorithm>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "cpu/hash.h"
#include "edges.h"
#include "hierpool/selection.h"
#include "testing.h"

using namespace hierpool;
using namespace hierpool::testing;

namespace {

template <typename I>
struct Graph {
  Matrix<I> matrix;
  std::vector<I> rowptr, col, source;  // of the transpose

  Graph(int64_t nodes, int64_t edges) : matrix(build(draw<I>(nodes, edges, false, 7), 1)) {
    rowptr.resize(matrix.rowptr.size()), col.resize(matrix.col.size()), source.resize(matrix.col.size());
    cpu::csr_transpose(matrix.csr(false), nodes, rowptr.data(), col.data(), source.data(), threads(1));
  }
  Neighbours neighbours() const {
    const Csr a = matrix.csr(false);
    return {a, {a.rows, a.int64_index, rowptr.data(), col.data(), nullptr}, source.data()};
  }
};

template <typename I>
void test_match(int64_t nodes, int64_t edges) {
  const Graph<I> graph(nodes, edges);
  const size_t entries = graph.matrix.col.size();
  std::vector<double> score(entries);
  std::iota(score.begin(), score.end(), 0.0);
  std::shuffle(score.begin(), score.end(), std::mt19937(1));  // distinct
  std::vector<size_t> order(entries), row(entries);
  for (size_t e = 0; e < entries; ++e) order[static_cast<size_t>(score[e])] = e;
  for (int64_t i = 0; i < nodes; ++i) {
    for (auto e = graph.matrix.rowptr[static_cast<size_t>(i)];
         e < graph.matrix.rowptr[static_cast<size_t>(i) + 1]; ++e) {
      row[static_cast<size_t>(e)] = static_cast<size_t>(i);
    }
  }
  std::vector<int64_t> expected(static_cast<size_t>(nodes), -1);
  for (size_t place = entries; place-- > 0;) {
    const size_t i = row[order[place]];
    const auto j = static_cast<size_t>(graph.matrix.col[order[place]]);
    if (expected[i] < 0 && expected[j] < 0) {
      expected[i] = static_cast<int64_t>(j), expected[j] = static_cast<int64_t>(i);
    }
  }
  const int64_t ptr[] = {0, nodes};
  double unknown = std::numeric_limits<double>::quiet_NaN();
  for (int64_t count : {1, 3}) {
    std::vector<int64_t> mate(static_cast<size_t>(nodes));
    const MatchProblem problem{graph.neighbours(), {1, ptr}, true, score.data(), true, 5};
    EXPECT(cpu::match(problem, mate.data(), threads(count)));
    EXPECT(mate == expected);
    if (entries == 0) continue;
    std::swap(score.back(), unknown);
    EXPECT(!cpu::match(problem, mate.data(), threads(count)));
    std::swap(score.back(), unknown);
  }
}

template <typename I>
void test_independent_set(int64_t nodes, int64_t edges, int64_t hops) {
  const Graph<I> graph(nodes, edges);
  const auto n = static_cast<size_t>(nodes);
  std::vector<std::vector<bool>> near(n, std::vector<bool>(n));
  for (size_t i = 0; i < n; ++i) {
    near[i][i] = true;
    for (auto e = graph.matrix.rowptr[i]; e < graph.matrix.rowptr[i + 1]; ++e) {
      const auto j = static_cast<size_t>(graph.matrix.col[static_cast<size_t>(e)]);
      near[i][j] = near[j][i] = true;
    }
  }
  auto reach = near;
  for (int64_t hop = 1; hop < hops; ++hop) {
    auto further = reach;
    for (size_t i = 0; i < n; ++i) {
      for (size_t k = 0; k < n; ++k) {
        for (size_t j = 0; reach[i][k] && j < n; ++j) further[i][j] = further[i][j] || near[k][j];
      }
    }
    reach = further;
  }
  std::vector<int64_t> order(n), expected(n, -1), head(n);
  std::iota(order.begin(), order.end(), int64_t{0});
  std::shuffle(order.begin(), order.end(), std::mt19937(2));
  std::vector<float> priority(n);
  for (size_t place = 0; place < n; ++place)
    priority[static_cast<size_t>(order[place])] = -static_cast<float>(place);
  for (int64_t i : order) {
    if (expected[static_cast<size_t>(i)] >= 0) continue;
    for (size_t j = 0; j < n; ++j) {
      if (reach[static_cast<size_t>(i)][j] && expected[j] < 0) expected[j] = i;
    }
  }
  const std::vector<int64_t> ptr{0, std::ssize(order)};
  EXPECT(cpu::maximal_independent_set(graph.neighbours(), {1, ptr.data()}, priority.data(), hops, 0,
                                      head.data()));
  EXPECT(head == expected);
}

// Priorities of which some are equal, of so many nodes that their order is found by digits, and of a few.
enum class Drawn { spread, close, mostly_equal, equal };

template <typename I, typename T>
void test_order_of_visits(Drawn drawn) {
  const std::vector<int64_t> ptr{0, 5000, 5100};
  const int64_t nodes = ptr.back();
  constexpr uint64_t kSeed = 9;
  const Graph<I> graph(nodes, 3 * nodes);
  std::vector<T> priority(static_cast<size_t>(nodes));
  std::mt19937 generator(4);
  for (T& p : priority) {
    const auto number = static_cast<T>(static_cast<int>(generator() % 2001) - 1000);
    const bool is_apart = drawn == Drawn::spread || (drawn == Drawn::mostly_equal && generator() % 8 == 0);
    p = is_apart ? number * number * number : drawn == Drawn::close ? T(1) + number / T(1 << 20) : T(3);
  }
  if (drawn == Drawn::spread) priority[0] = T(0), priority[1] = -T(0);
  std::vector<int64_t> order(static_cast<size_t>(nodes)), expected(order.size(), -1), head(order.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  for (size_t b = 0; b + 1 < ptr.size(); ++b) {
    std::sort(order.begin() + ptr[b], order.begin() + ptr[b + 1], [&](int64_t i, int64_t j) {
      const T of_i = priority[static_cast<size_t>(i)], of_j = priority[static_cast<size_t>(j)];
      if (of_i != of_j) return of_i > of_j;
      const uint64_t salt = cpu::mix(kSeed);
      return cpu::node_hash(salt, i - ptr[b]) < cpu::node_hash(salt, j - ptr[b]);
    });
  }
  const auto cover = [&](int64_t by, const std::vector<I>& rowptr, const std::vector<I>& col) {
    for (I e = rowptr[static_cast<size_t>(by)]; e < rowptr[static_cast<size_t>(by) + 1]; ++e) {
      int64_t& own = expected[static_cast<size_t>(col[static_cast<size_t>(e)])];
      if (own < 0) own = by;
    }
  };
  for (const int64_t i : order) {
    if (expected[static_cast<size_t>(i)] >= 0) continue;
    expected[static_cast<size_t>(i)] = i;
    cover(i, graph.matrix.rowptr, graph.matrix.col);
    cover(i, graph.rowptr, graph.col);
  }
  EXPECT(cpu::maximal_independent_set(graph.neighbours(), {2, ptr.data()}, priority.data(), 1, kSeed,
                                      head.data()));
  EXPECT(head == expected);
}

template <typename T>
void test_topk(const std::vector<int64_t>& sizes) {
  std::vector<int64_t> ptr{0}, count;
  for (int64_t size : sizes) ptr.push_back(ptr.back() + size), count.push_back((size + 1) / 2);
  std::vector<T> score(static_cast<size_t>(ptr.back()));
  std::mt19937 generator(3);
  for (T& s : score) s = static_cast<T>(static_cast<int>(generator() % 101) - 50) / 7;
  std::vector<int64_t> expected;
  for (size_t b = 0; b < sizes.size(); ++b) {
    std::vector<int64_t> nodes(static_cast<size_t>(sizes[b]));
    std::iota(nodes.begin(), nodes.end(), ptr[b]);
    std::stable_sort(nodes.begin(), nodes.end(), [&](int64_t i, int64_t j) {
      return score[static_cast<size_t>(i)] > score[static_cast<size_t>(j)];
    });
    expected.insert(expected.end(), nodes.begin(), nodes.begin() + count[b]);
  }
  for (int64_t several : {1, 3}) {
    std::vector<int64_t> kept(expected.size());
    cpu::topk({std::ssize(sizes), ptr.data()}, score.data(), count.data(), kept.data(), threads(several));
    EXPECT(kept == expected);
  }
}

template <typename I>
void test_components(int64_t nodes, int64_t edges) {
  const Graph<I> graph(nodes, edges);
  const Csr a = graph.matrix.csr(false);
  const auto n = static_cast<size_t>(nodes);
  std::vector<uint8_t> usable(graph.matrix.col.size());
  std::mt19937 generator(4);
  for (auto& u : usable) u = generator() % 2;
  std::vector<int64_t> expected(n), first(n);
  std::iota(expected.begin(), expected.end(), int64_t{0});
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t i = 0; i < n; ++i) {
      for (auto e = graph.matrix.rowptr[i]; e < graph.matrix.rowptr[i + 1]; ++e) {
        int64_t& one = expected[i];
        int64_t& other = expected[static_cast<size_t>(graph.matrix.col[static_cast<size_t>(e)])];
        if (usable[static_cast<size_t>(e)] == 0 || one == other) continue;
        one = other = std::min(one, other);
        changed = true;
      }
    }
  }
  cpu::components(a, usable.data(), first.data());
  EXPECT(first == expected);
}

// A ring of an even number of nodes and a star, which both have two sides, and nodes without neighbours.
template <typename I>
void test_spectral_sign() {
  std::vector<std::vector<I>> rows(30);
  const auto join = [&](I i, I j) {
    rows[static_cast<size_t>(i)].push_back(j), rows[static_cast<size_t>(j)].push_back(i);
  };
  for (I i = 0; i < 16; ++i) join(i, (i + 1) % 16);
  for (I i = 17; i < 28; ++i) join(16, i);
  std::vector<I> rowptr{0}, col;
  for (auto& row : rows) {
    std::sort(row.begin(), row.end());
    col.insert(col.end(), row.begin(), row.end());
    rowptr.push_back(static_cast<I>(col.size()));
  }
  const Csr a{30, sizeof(I) == 8, rowptr.data(), col.data(), nullptr};
  const int64_t ptr[] = {0, 10, 10, 30};
  for (int64_t several : {1, 3}) {
    std::vector<uint8_t> kept(30);
    cpu::spectral_sign(a, {3, ptr}, 5, kept.data(), threads(several));
    for (size_t i = 0; i < 16; ++i) EXPECT(kept[i] == (kept[0] + i) % 2);
    for (size_t i = 16; i < 30; ++i) EXPECT(kept[i] == (i == 16 || i >= 28));
  }
}

template <typename I>
void test_propagate(int64_t nodes, int64_t edges, int64_t hops) {
  const Graph<I> graph(nodes, edges);
  const Csr inward = graph.neighbours().transpose;
  const auto n = static_cast<size_t>(nodes);
  std::vector<int64_t> start(n, -1);
  for (size_t i = 0; i < n; i += 5) start[i] = static_cast<int64_t>(i % 3);
  std::vector<int64_t> expected = start;
  for (int64_t hop = 0; hop < hops; ++hop) {
    const std::vector<int64_t> before = expected;
    for (size_t i = 0; i < n; ++i) {
      if (before[i] >= 0) continue;
      int64_t count[3] = {};
      for (auto e = graph.rowptr[i]; e < graph.rowptr[i + 1]; ++e) {
        const int64_t label = before[static_cast<size_t>(graph.col[static_cast<size_t>(e)])];
        if (label >= 0) ++count[label];
      }
      const auto most = std::max_element(count, count + 3);
      if (*most > 0) expected[i] = most - count;
    }
  }
  for (int64_t several : {1, 3}) {
    std::vector<int64_t> label = start;
    cpu::propagate(inward, hops, label.data(), threads(several));
    EXPECT(label == expected);
  }
}

}  // namespace

TEST(selection) {
  for (int64_t hops : {0, 1, 4}) {
    test_propagate<int32_t>(5000, 6000, hops);
    test_propagate<int64_t>(9, 0, hops);
  }
  test_components<int32_t>(60, 70);
  test_components<int64_t>(5, 0);
  test_spectral_sign<int32_t>();
  test_spectral_sign<int64_t>();
  for (int64_t nodes : {1, 2, 40, 5000}) {
    for (int64_t degree : {0, 1, 6}) {
      test_match<int32_t>(nodes, nodes * degree);
      test_match<int64_t>(nodes, nodes * degree);
    }
  }
  for (int64_t hops : {1, 2, 3}) {
    test_independent_set<int32_t>(50, 70, hops);
    test_independent_set<int64_t>(7, 0, hops);
  }
  for (const Drawn drawn : {Drawn::spread, Drawn::close, Drawn::mostly_equal, Drawn::equal}) {
    test_order_of_visits<int32_t, float>(drawn);
    test_order_of_visits<int64_t, double>(drawn);
  }
  test_topk<float>({0, 1, 5, 5000, 0, 300, 128, 60, 4, 17, 129});
  test_topk<double>({9000, 2});
}
