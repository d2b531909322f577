// Merging the nodes of a matrix into clusters, and the values of merged entries, against maps, for one thread and
// several.
#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>
#include <utility>
#include <vector>

#include "edges.h"
#include "hierpool/coalesce.h"
#include "hierpool/graph_contract.h"
#include "testing.h"

using namespace hierpool;
using namespace hierpool::testing;

namespace {

// Outputs of a contraction.
template <typename T, typename I>
struct Outputs {
  std::vector<I> rowptr, col, slot;
  std::vector<T> value;
  bool operator==(const Outputs&) const = default;

  static void* allocate(void* context, GraphContract::Output output, int64_t count) {
    auto& self = *static_cast<Outputs*>(context);
    const auto size = static_cast<size_t>(count);
    switch (output) {
      case GraphContract::rowptr: return self.rowptr.resize(size), self.rowptr.data();
      case GraphContract::col: return self.col.resize(size), self.col.data();
      case GraphContract::slot: return self.slot.resize(size), self.slot.data();
      default: return self.value.resize(size), self.value.data();
    }
  }
};

template <typename T, typename I>
struct Case {
  Matrix<I> matrix;
  std::vector<T> value;
  std::vector<I> cluster, first, node;
  bool injective;

  // With as many clusters as nodes, clusters are single nodes in another order, of which every third is dropped.
  Case(int64_t nodes, int64_t edges, int64_t clusters)
      : matrix(build(draw<I>(nodes, edges, true, 13), 2)), injective(clusters == nodes) {
    value.assign(matrix.value.begin(), matrix.value.end());
    uint64_t state = 5;
    first.assign(static_cast<size_t>(clusters) + 1, 0);
    for (int64_t i = 0; i < nodes; ++i) {
      const int64_t drawn =
          static_cast<int64_t>(std::floor((noise(state) + 1) / 2 * static_cast<double>(clusters + 1))) - 1;
      const int64_t single = i % 3 == 2 ? -1 : nodes - 1 - i;
      cluster.push_back(static_cast<I>(injective ? single : drawn));
    }
    for (int64_t k = 0; k < clusters; ++k) {
      for (int64_t i = 0; i < nodes; ++i) {
        if (cluster[static_cast<size_t>(i)] == k) node.push_back(static_cast<I>(i));
      }
      first[static_cast<size_t>(k) + 1] = static_cast<I>(node.size());
    }
  }

  Csr csr() const {
    return {static_cast<int64_t>(cluster.size()), sizeof(I) == 8, matrix.rowptr.data(), matrix.col.data(),
            value.data()};
  }
  Members members() const { return {static_cast<int64_t>(first.size()) - 1, first.data(), node.data()}; }

  Outputs<T, I> contract(Loops loops, int64_t count) const {
    Outputs<T, I> out;
    GraphContract c{};
    c.graph = csr(), c.cluster = cluster.data(), c.members = members();
    c.loops = loops, c.want_sum = c.want_slot = true, c.double_value = sizeof(T) == 8,
    c.injective = injective;
    c.allocate = Outputs<T, I>::allocate, c.context = &out;
    const ContractedGraph done = cpu::graph_contract(c, threads(count));
    EXPECT(done.entries == static_cast<int64_t>(out.col.size()));
    return out;
  }
};

template <typename T, typename I>
void test_contraction(int64_t nodes, int64_t edges, int64_t clusters) {
  const Case<T, I> given(nodes, edges, clusters);
  const double tolerance = sizeof(T) == 8 ? 1e-13 : 1e-5;
  for (const Loops loops : {Loops::keep, Loops::drop, Loops::apart}) {
    const Outputs<T, I> out = given.contract(loops, 1);
    EXPECT(out == given.contract(loops, 3));
    std::map<std::pair<I, I>, double> sums;
    std::vector<double> apart(static_cast<size_t>(clusters));
    for (size_t i = 0; i < given.cluster.size(); ++i) {
      for (auto e = static_cast<size_t>(given.matrix.rowptr[i]);
           e < static_cast<size_t>(given.matrix.rowptr[i + 1]); ++e) {
        const I k = given.cluster[i], l = given.cluster[static_cast<size_t>(given.matrix.col[e])];
        const bool loop = k == l && loops != Loops::keep, kept = k >= 0 && l >= 0 && !loop;
        if (kept) sums[{k, l}] += given.value[e];
        if (loop && k >= 0) apart[static_cast<size_t>(k)] += given.value[e];
        const bool has_place = kept || (loop && k >= 0 && loops == Loops::apart);
        EXPECT((out.slot[e] >= 0) == has_place);
        if (kept) EXPECT(out.col[static_cast<size_t>(out.slot[e])] == l);
      }
    }
    EXPECT(sums.size() == out.col.size());
    size_t place = 0;
    for (const auto& [key, sum] : sums) {
      EXPECT(out.col[place] == key.second &&
             out.rowptr[static_cast<size_t>(key.first)] <= static_cast<I>(place));
      EXPECT(std::abs(out.value[place++] - sum) <= tolerance * static_cast<double>(edges));
    }
    for (size_t k = 0; loops == Loops::apart && k < apart.size(); ++k) {
      EXPECT(std::abs(out.value[place + k] - apart[k]) <= tolerance * static_cast<double>(edges));
    }
    // The same sums by their slots.
    Coalesce c{given.csr(),           given.members(), out.slot.data(), {},
               loops == Loops::apart, false,           Reduce::sum,     sizeof(T) == 8};
    c.merged = {clusters, sizeof(I) == 8, out.rowptr.data(), out.col.data(), nullptr};
    std::vector<T> again(out.value.size());
    std::vector<I> source(again.size());
    cpu::coalesce_fwd(c, again.data(), source.data(), threads(3));
    EXPECT(again == out.value);
  }
}

// A graph without values that is stated to be symmetric, with so many clusters that no columns are sorted.
template <typename T, typename I>
struct Unweighted {
  std::vector<I> rowptr{0}, col, cluster, first{0}, node;
  int64_t clusters;

  // A fifth of the nodes are in the first cluster, and with `drops` a sixth in none. Without `turned`, entries below the
  // diagonal are left out.
  Unweighted(int64_t nodes, int64_t edges, int64_t clusters, bool drops, bool turned) : clusters(clusters) {
    uint64_t state = 3;
    const auto draw = [&](int64_t n) {
      return static_cast<int64_t>(std::floor((noise(state) + 1) / 2 * static_cast<double>(n)));
    };
    std::set<std::pair<int64_t, int64_t>> ends;
    for (int64_t e = 0; e < edges; ++e) {
      const int64_t i = draw(nodes), j = draw(nodes);
      ends.insert({std::min(i, j), std::max(i, j)});
      if (turned) ends.insert({std::max(i, j), std::min(i, j)});
    }
    for (const auto& [i, j] : ends) {
      while (static_cast<int64_t>(rowptr.size()) <= i) rowptr.push_back(static_cast<I>(col.size()));
      col.push_back(static_cast<I>(j));
    }
    rowptr.resize(static_cast<size_t>(nodes) + 1, static_cast<I>(col.size()));
    std::vector<std::vector<I>> members(static_cast<size_t>(clusters));
    for (int64_t i = 0; i < nodes; ++i) {
      const int64_t k = drops && i % 6 == 1 ? -1 : i % 5 == 0 ? 0 : draw(clusters);
      cluster.push_back(static_cast<I>(k));
      if (k >= 0) members[static_cast<size_t>(k)].push_back(static_cast<I>(i));
    }
    for (const auto& own : members) {
      node.insert(node.end(), own.begin(), own.end());
      first.push_back(static_cast<I>(node.size()));
    }
  }

  Outputs<T, I> contract(Loops loops, bool want_sum, int64_t count, bool* merged) const {
    Outputs<T, I> out;
    GraphContract c{};
    c.graph = {static_cast<int64_t>(cluster.size()), sizeof(I) == 8, rowptr.data(), col.data(), nullptr};
    c.cluster = cluster.data(), c.members = {clusters, first.data(), node.data()};
    c.loops = loops, c.symmetric = true, c.want_sum = want_sum, c.double_value = sizeof(T) == 8;
    c.allocate = Outputs<T, I>::allocate, c.context = &out;
    *merged = cpu::graph_contract(c, threads(count)).merged;
    return out;
  }

  void check(Loops loops, bool want_sum) const {
    std::map<std::pair<I, I>, I> counts;
    std::vector<T> apart(static_cast<size_t>(clusters));
    bool expected_merged = false;
    for (size_t i = 0; i < cluster.size(); ++i) {
      for (auto e = static_cast<size_t>(rowptr[i]); e < static_cast<size_t>(rowptr[i + 1]); ++e) {
        const I k = cluster[i], l = cluster[static_cast<size_t>(col[e])];
        if (k < 0 || l < 0) continue;
        if (k != l || loops == Loops::keep) {
          expected_merged |= ++counts[{k, l}] > 1;
        } else {
          apart[static_cast<size_t>(k)] += 1;
        }
      }
    }
    Outputs<T, I> expected;
    expected.rowptr.assign(static_cast<size_t>(clusters) + 1, 0);
    for (const auto& [key, count] : counts) {
      ++expected.rowptr[static_cast<size_t>(key.first) + 1];
      expected.col.push_back(key.second);
      if (want_sum) expected.value.push_back(static_cast<T>(count));
    }
    std::partial_sum(expected.rowptr.begin(), expected.rowptr.end(), expected.rowptr.begin());
    if (want_sum && loops == Loops::apart)
      expected.value.insert(expected.value.end(), apart.begin(), apart.end());
    for (const int64_t count : {1, 3}) {
      bool merged = !expected_merged;
      EXPECT(contract(loops, want_sum, count, &merged) == expected && merged == expected_merged);
    }
  }
};

template <typename T, typename I>
void test_unweighted(int64_t nodes, int64_t edges, int64_t clusters) {
  for (const bool drops : {false, true}) {
    for (const bool turned : {true, false}) {  // what was stated may be wrong
      const Unweighted<T, I> given(nodes, edges, clusters, drops, turned);
      for (const Loops loops : {Loops::keep, Loops::drop, Loops::apart}) given.check(loops, true);
      given.check(Loops::drop, false);
    }
  }
}

}  // namespace

TEST(contraction_of_a_symmetric_graph) {
  test_unweighted<float, int32_t>(9000, 45000, 5000);
  test_unweighted<double, int64_t>(9000, 45000, 5000);
  test_unweighted<float, int32_t>(5000, 0, 4500);
  test_unweighted<float, int64_t>(30000, 30000, 30000);
}

TEST(contraction) {
  test_contraction<float, int32_t>(40, 300, 7);
  test_contraction<double, int64_t>(40, 300, 30);
  test_contraction<double, int32_t>(300, 9000, 3);     // rows of many entries and few columns
  test_contraction<float, int64_t>(2000, 90000, 400);  // several tasks
  test_contraction<float, int32_t>(5, 0, 2);
  for (const int64_t edges : {100, 400, 1200, 4000, 9000}) {  // rows of a few entries to more than 64
    test_contraction<float, int32_t>(120, edges, 90);
    test_contraction<double, int64_t>(120, edges, 120);
  }
}
