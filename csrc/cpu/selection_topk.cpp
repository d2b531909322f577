// The nodes of each graph with the largest scores: small graphs by comparison, large ones by a radix sort.
#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "cpu/float_keys.h"
#include "cpu/radix_sort.h"
#include "cpu/score_ranks.h"
#include "cpu/tasks.h"
#include "hierpool/selection.h"

namespace hierpool::cpu {
namespace {

constexpr int64_t kNodes = 1 << 12;  // of the graphs of one task

template <typename T>
using Items = std::vector<Item<typename FloatKeys<T>::Key>>;

template <typename T>
void sort_graph(const T* score, int64_t first, int64_t n, int64_t count, int64_t* kept, Items<T>& memory) {
  using Keys = FloatKeys<T>;
  constexpr int64_t kComparison = 1 << 12;
  memory.resize(static_cast<size_t>(n));
  auto* const items = memory.data();
  for (int64_t i = 0; i < n; ++i)
    items[i] = {static_cast<typename Keys::Key>(~Keys::key(score[first + i])), first + i};
  if (n <= kComparison) {
    std::partial_sort(items, items + count, items + n, [](const auto& a, const auto& b) {
      return a.key != b.key ? a.key < b.key : a.row < b.row;
    });
  } else {
    radix_sort(items, n);
  }
  for (int64_t i = 0; i < count; ++i) kept[i] = items[i].row;
}

}  // namespace

template <typename T>
void topk(const Blocks& blocks, const T* score, const int64_t* count, int64_t* kept, const Runtime& runtime) {
  std::vector<int64_t> start(static_cast<size_t>(blocks.graphs));
  std::exclusive_scan(count, count + blocks.graphs, start.begin(), int64_t{0});
  const auto before = [&](int64_t b) { return blocks.ptr[b]; };
  run_row_tasks(runtime, blocks.graphs, kNodes, before, [&](int64_t begin, int64_t end, int64_t) {
    Items<T> memory;
    DescendingRanks ranks;
    for (int64_t b = begin; b < end; ++b) {
      const int64_t first = blocks.ptr[b], n = blocks.ptr[b + 1] - first;
      int64_t* const own = kept + start[static_cast<size_t>(b)];
      if (DescendingRanks::take<T>(n)) {
        ranks.find(score + first, n, [&](int64_t i, int64_t rank) {
          if (rank < count[b]) own[rank] = first + i;
        });
      } else if (count[b] > 0) {
        sort_graph(score, first, n, count[b], own, memory);
      }
    }
  });
}

template <typename T>
bool topk_in_batch(int64_t n, const int64_t* batch, const T* score, const KeptRows& rows,
                   std::vector<int64_t>& kept, const Runtime& runtime) {
  int64_t graphs = 0;
  bool sorted = true, valid = true;
  for (int64_t i = 0; i < n; ++i) {
    graphs = std::max(graphs, batch[i] + 1);
    sorted &= i == 0 || batch[i - 1] <= batch[i];
    valid &= score[i] == score[i];
  }
  if (!valid) return false;
  std::vector<int64_t> ptr(static_cast<size_t>(graphs) + 1), count(static_cast<size_t>(graphs));
  for (int64_t i = 0; i < n; ++i) ++ptr[static_cast<size_t>(batch[i]) + 1];
  int64_t total = 0;
  for (size_t b = 0; b < count.size(); ++b) total += count[b] = rows(ptr[b + 1]);
  std::partial_sum(ptr.begin(), ptr.end(), ptr.begin());
  kept.resize(static_cast<size_t>(total));
  if (sorted) {
    topk({graphs, ptr.data()}, score, count.data(), kept.data(), runtime);
    return true;
  }
  std::vector<int64_t> next(ptr.begin(), ptr.end() - 1), order(static_cast<size_t>(n));
  std::vector<T> by_graph(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    const auto place = static_cast<size_t>(next[static_cast<size_t>(batch[i])]++);
    order[place] = i;
    by_graph[place] = score[i];
  }
  topk({graphs, ptr.data()}, by_graph.data(), count.data(), kept.data(), runtime);
  for (int64_t& row : kept) row = order[static_cast<size_t>(row)];
  return true;
}

template bool topk_in_batch(int64_t, const int64_t*, const float*, const KeptRows&, std::vector<int64_t>&,
                            const Runtime&);
template bool topk_in_batch(int64_t, const int64_t*, const double*, const KeptRows&, std::vector<int64_t>&,
                            const Runtime&);
template void topk(const Blocks&, const float*, const int64_t*, int64_t*, const Runtime&);
template void topk(const Blocks&, const double*, const int64_t*, int64_t*, const Runtime&);

}  // namespace hierpool::cpu
