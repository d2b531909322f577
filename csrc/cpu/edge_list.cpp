#include "hierpool/edge_list.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "cpu/buffer.h"
#include "cpu/contracted_row.h"
#include "cpu/tasks.h"

namespace hierpool::cpu {
namespace {

constexpr int64_t kEdges = 4096;  // of one task: what it keeps fits into a cache

template <typename Edges>
bool exists(const Edges& f, int64_t e) {
  const auto nodes = static_cast<uint64_t>(f.nodes);
  return (static_cast<uint64_t>(f.source[e]) < nodes) & (static_cast<uint64_t>(f.target[e]) < nodes);
}

// Whether an edge is kept, without a branch that nobody can predict.
bool is_kept(int64_t source, int64_t target) { return (source | target) >= 0; }

struct Block {
  int64_t source[kEdges], target[kEdges], kept[kEdges];

  int64_t fill(const EdgeFilter& f, int64_t begin, int64_t end) {
    int64_t count = 0;
    for (int64_t e = begin; e < end; ++e) {
      source[count] = f.number[f.source[e]];
      target[count] = f.number[f.target[e]];
      kept[count] = e;
      count += is_kept(source[count], target[count]);
    }
    return count;
  }
};

}  // namespace

int64_t filter_edges(const EdgeFilter& f, const Runtime& runtime) {
  const int64_t tasks = ceil_div(f.edges, kEdges);
  std::vector<int64_t> count(static_cast<size_t>(tasks)), wrong(static_cast<size_t>(tasks), f.edges);
  run_range_tasks(runtime, f.edges, kEdges, [&](int64_t begin, int64_t end, int64_t) {
    const auto t = static_cast<size_t>(begin / kEdges);
    int64_t kept = 0;
    for (int64_t e = begin; e < end; ++e) {
      if (!exists(f, e)) {
        wrong[t] = e;
        return;
      }
      kept += is_kept(f.number[f.source[e]], f.number[f.target[e]]);
    }
    count[t] = kept;
  });
  const auto first_wrong = std::min_element(wrong.begin(), wrong.end());
  if (first_wrong != wrong.end() && *first_wrong < f.edges) return *first_wrong;
  const int64_t total = std::accumulate(count.begin(), count.end(), int64_t{0});
  const EdgeFilter::Outputs out = f.allocate(f.context, total);
  std::exclusive_scan(count.begin(), count.end(), count.begin(), int64_t{0});
  std::vector<Block> blocks(static_cast<size_t>(std::min(std::max<int64_t>(runtime.threads, 1), tasks)));
  run_range_tasks(runtime, f.edges, kEdges, [&](int64_t begin, int64_t end, int64_t thread) {
    Block& block = blocks[static_cast<size_t>(thread)];
    const int64_t kept = block.fill(f, begin, end), place = count[static_cast<size_t>(begin / kEdges)];
    std::copy_n(block.source, kept, out.source + place);
    std::copy_n(block.target, kept, out.target + place);
    if (out.kept) std::copy_n(block.kept, kept, out.kept + place);
  });
  return -1;
}

int64_t merge_edges(const EdgeMerge& m, int64_t* slot) {
  // The edges by the cluster of their source.
  const Buffer<int64_t> place(m.clusters + 1), by_row(m.edges), target(m.edges);
  int64_t* const first = place.data();
  std::fill_n(first, m.clusters + 1, int64_t{0});
  for (int64_t e = 0; e < m.edges; ++e) {
    if (!exists(m, e)) return e;
    ++first[m.cluster[m.source[e]]];
  }
  std::exclusive_scan(first, first + m.clusters + 1, first, int64_t{0});
  for (int64_t e = 0; e < m.edges; ++e) {
    const int64_t at = first[m.cluster[m.source[e]]]++;
    by_row.data()[at] = e;
    target.data()[at] = m.cluster[m.target[e]];
  }
  ContractedRow<int64_t, double> row;
  ExactSum unused;
  int64_t* const col = target.data();  // a row has no more columns than edges
  const Buffer<int64_t> count(m.clusters);
  int64_t total = 0;
  for (int64_t k = 0, begin = 0; k < m.clusters; ++k) {
    const int64_t end = first[k];
    row.reserve(end - begin);
    row.fill([&](const auto& push) {
      for (int64_t i = begin; i < end; ++i) {
        const bool kept = !m.drop_loops | (target.data()[i] != k);
        push(kept, target.data()[i], by_row.data()[i]);
        if (slot) slot[by_row.data()[i]] = -1;
      }
    });
    const int64_t n =
        row.merge(m.clusters, false, Terms::none, nullptr, col + total, nullptr, slot, total, unused);
    count.data()[k] = n;
    total += n;
    begin = end;
  }
  const EdgeMerge::Outputs out = m.allocate(m.context, total);
  std::copy_n(col, total, out.target);
  for (int64_t k = 0, at = 0; k < m.clusters; at += count.data()[k++]) {
    std::fill_n(out.source + at, count.data()[k], k);
  }
  return -1;
}

}  // namespace hierpool::cpu
