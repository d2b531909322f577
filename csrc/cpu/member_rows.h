// The rows of the nodes of each cluster.
#pragma once

#include <cstdint>
#include <numeric>

#include "cpu/buffer.h"
#include "cpu/tasks.h"
#include "hierpool/graph_contract.h"

namespace hierpool::cpu {

template <typename I>
struct MemberRows {
  explicit MemberRows(const GraphContract& c)
      : rowptr(static_cast<const I*>(c.graph.rowptr)),
        col(static_cast<const I*>(c.graph.col)),
        cluster(static_cast<const I*>(c.cluster)),
        first(static_cast<const I*>(c.members.first)),
        node(static_cast<const I*>(c.members.node)),
        count(c.members.clusters) {}

  // Entries of the nodes of cluster k.
  int64_t degree(int64_t k) const {
    int64_t sum = 0;
    for (I m = first[k]; m < first[k + 1]; ++m) {
      if (m + kAhead < first[count]) __builtin_prefetch(rowptr + node[m + kAhead]);
      sum += rowptr[node[m] + 1] - rowptr[node[m]];
    }
    return sum;
  }

  // [count + 1]: entries of the nodes of all clusters before each.
  Buffer<int64_t> entries_before(const Runtime& runtime) const {
    constexpr int64_t kRows = 4096;
    Buffer<int64_t> bounds(count + 1);
    int64_t* const bound = bounds.data();
    run_range_tasks(runtime, count, kRows, [&](int64_t begin, int64_t end, int64_t) {
      for (int64_t k = begin; k < end; ++k) bound[k] = degree(k);
    });
    bound[count] = 0;
    std::exclusive_scan(bound, bound + count + 1, bound, int64_t{0});
    return bounds;
  }

  // Nodes of a cluster may be far apart in memory: asks for the row of a member after member m, and its values unless null.
  // GCC drops calls of a function that does nothing but prefetch.
  template <typename T>
  __attribute__((always_inline)) void prefetch(I m, const T* value) const {
    if (m + 2 * kAhead >= first[count]) return;
    __builtin_prefetch(rowptr + node[m + 2 * kAhead]);
    const I next = rowptr[node[m + kAhead]];
    __builtin_prefetch(col + next);
    __builtin_prefetch(col + next + 16);
    if (value) __builtin_prefetch(value + next), __builtin_prefetch(value + next + 16);
  }

  static constexpr I kAhead = 8;

  const I* rowptr;
  const I* col;
  const I* cluster;
  const I* first;
  const I* node;
  int64_t count;
};

}  // namespace hierpool::cpu
