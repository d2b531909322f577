// Labels that spread from some nodes: in every round from all nodes that had one before it.
#include <algorithm>
#include <vector>

#include "cpu/tasks.h"
#include "hierpool/selection.h"

namespace hierpool::cpu {
namespace {

// The most frequent label, of equally frequent ones the smallest; -1: there is none.
int64_t most_frequent(std::vector<int64_t>& labels) {
  std::sort(labels.begin(), labels.end());
  int64_t best = -1;
  size_t most = 0;
  for (size_t i = 0, j = 0; i < labels.size(); i = j) {
    while (j < labels.size() && labels[j] == labels[i]) ++j;
    if (j - i > most) best = labels[i], most = j - i;
  }
  return best;
}

template <typename I>
void spread(const Csr& inward, int64_t hops, int64_t* label, const Runtime& runtime) {
  constexpr int64_t kChunk = 1 << 11;
  const auto* const rowptr = static_cast<const I*>(inward.rowptr);
  const auto* const col = static_cast<const I*>(inward.col);
  std::vector<int64_t> open;  // nodes without a label
  for (int64_t i = 0; i < inward.rows; ++i) {
    if (label[i] < 0) open.push_back(i);
  }
  std::vector<int64_t> found;
  for (int64_t hop = 0; hop < hops && !open.empty(); ++hop) {
    found.assign(open.size(), -1);
    run_range_tasks(runtime, std::ssize(open), kChunk, [&](int64_t begin, int64_t end, int64_t) {
      std::vector<int64_t> labels;
      for (int64_t k = begin; k < end; ++k) {
        const int64_t i = open[static_cast<size_t>(k)];
        labels.clear();
        for (I e = rowptr[i]; e < rowptr[i + 1]; ++e) {
          if (label[col[e]] >= 0) labels.push_back(label[col[e]]);
        }
        found[static_cast<size_t>(k)] = most_frequent(labels);
      }
    });
    size_t left = 0;
    for (size_t k = 0; k < open.size(); ++k) {
      label[open[k]] = found[k];
      if (found[k] < 0) open[left++] = open[k];
    }
    if (left == open.size()) return;
    open.resize(left);
  }
}

}  // namespace

void propagate(const Csr& inward, int64_t hops, int64_t* label, const Runtime& runtime) {
  if (inward.int64_index) {
    spread<int64_t>(inward, hops, label, runtime);
  } else {
    spread<int32_t>(inward, hops, label, runtime);
  }
}

}  // namespace hierpool::cpu
