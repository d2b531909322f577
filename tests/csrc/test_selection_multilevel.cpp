// Multilevel clustering: planted cliques, and on random graphs the number and the sizes of clusters, for one thread and
// several.
#include <algorithm>
#include <set>
#include <vector>

#include "hierpool/selection.h"
#include "testing.h"

using namespace hierpool;
using namespace hierpool::testing;

namespace {

template <typename I>
struct Batch {
  std::vector<int64_t> ptr{0};
  std::vector<I> rowptr{0}, col;
  std::vector<double> value;

  // A graph of these weights [nodes, nodes], 0: no entry.
  void add(int64_t nodes, const std::vector<double>& weights) {
    const int64_t first = ptr.back();
    for (int64_t i = 0; i < nodes; ++i) {
      for (int64_t j = 0; j < nodes; ++j) {
        const double w = weights[static_cast<size_t>(i * nodes + j)];
        if (w != 0) col.push_back(static_cast<I>(first + j)), value.push_back(w);
      }
      rowptr.push_back(static_cast<I>(std::ssize(col)));
    }
    ptr.push_back(first + nodes);
  }

  std::vector<int64_t> cluster(ClusteringProblem problem, int64_t count) const {
    problem.graph = {ptr.back(), sizeof(I) == 8, rowptr.data(), col.data(), value.data()};
    problem.blocks = {std::ssize(ptr) - 1, ptr.data()};
    std::vector<int64_t> out(static_cast<size_t>(ptr.back()));
    cpu::multilevel_clusters(problem, out.data(), threads(count));
    return out;
  }
};

std::vector<double> random_weights(int64_t nodes, double density, uint64_t seed) {
  std::vector<double> out(static_cast<size_t>(nodes * nodes));
  for (int64_t i = 0; i < nodes; ++i) {
    for (int64_t j = 0; j <= i; ++j) {
      const double w = noise(seed) < 2 * density - 1 ? noise(seed) + 1 : 0;
      out[static_cast<size_t>(i * nodes + j)] = out[static_cast<size_t>(j * nodes + i)] = w;
    }
  }
  return out;
}

template <typename I>
void test_cliques() {
  constexpr int64_t kCliques = 9, kSize = 5, kNodes = kCliques * kSize;
  std::vector<double> weights(static_cast<size_t>(kNodes * kNodes), 0.0);
  std::vector<int64_t> expected;
  for (int64_t i = 0; i < kNodes; ++i) {
    expected.push_back(i / kSize);
    for (int64_t j = 0; j < kNodes; ++j) {
      if (i != j && i / kSize == j / kSize) weights[static_cast<size_t>(i * kNodes + j)] = 1;
      const bool next = j == (i + 1) % kNodes || i == (j + 1) % kNodes;
      if (next) weights[static_cast<size_t>(i * kNodes + j)] = 1;
    }
  }
  Batch<I> batch;
  batch.add(kNodes, weights);
  for (bool cut : {false, true}) {
    const int64_t most = kCliques, largest = cut ? kSize + 2 : kNodes;
    EXPECT(batch.cluster({{}, {}, cut, 1, &most, true, &largest, nullptr, 2, 0}, 1) == expected);
  }
}

template <typename I>
void test_random(bool cut, bool exact, bool started) {
  Batch<I> batch;
  for (int64_t nodes : {0, 1, 2, 30, 130, 0, 60}) {
    batch.add(nodes, random_weights(nodes, nodes == 60 ? 0 : 0.08, static_cast<uint64_t>(nodes)));
  }
  std::vector<int64_t> most, largest, start;
  for (size_t b = 0; b + 1 < batch.ptr.size(); ++b) {
    const int64_t nodes = batch.ptr[b + 1] - batch.ptr[b], k = exact ? 1 + static_cast<int64_t>(b) : nodes;
    most.push_back(k);
    largest.push_back(cut ? (nodes + k - 1) / std::max<int64_t>(k, 1) : nodes);
    for (int64_t i = 0; i < nodes; ++i) start.push_back(i % std::max<int64_t>(std::min<int64_t>(k, 3), 1));
  }
  const ClusteringProblem problem{
      {}, {}, cut, 0.7, most.data(), exact, largest.data(), started ? start.data() : nullptr, 2, 7};
  const std::vector<int64_t> found = batch.cluster(problem, 1);
  EXPECT(batch.cluster(problem, 3) == found);
  for (size_t b = 0; b + 1 < batch.ptr.size(); ++b) {
    const auto begin = found.begin() + batch.ptr[b], end = found.begin() + batch.ptr[b + 1];
    const std::set<int64_t> numbers(begin, end);
    const int64_t count = std::ssize(numbers), nodes = end - begin;
    EXPECT(count == 0 || *numbers.rbegin() == count - 1);
    EXPECT(count <= std::max<int64_t>(most[b], 0));
    if (exact && !started) EXPECT(count == std::min(most[b], nodes));
    for (int64_t c : numbers) EXPECT(std::count(begin, end, c) <= largest[b]);
  }
}

}  // namespace

TEST(selection_multilevel) {
  test_cliques<int32_t>();
  test_cliques<int64_t>();
  for (bool started : {false, true}) {
    test_random<int32_t>(false, false, started);
    test_random<int64_t>(false, true, started);
    test_random<int32_t>(true, true, started);
  }
}
