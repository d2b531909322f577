// Contract of merging the nodes of a sparse matrix into clusters on the CPU.
#pragma once

#include <cstdint>

#include "hierpool/csr.h"
#include "hierpool/runtime.h"

namespace hierpool {

// The nodes of each cluster. Indices have the width of those of the graph.
struct Members {
  int64_t clusters;
  const void* first;  // [clusters + 1]: first of the nodes of each cluster
  const void* node;   // [first[clusters]], ascending in every cluster
};

// What becomes of entries that join two nodes of one cluster.
enum class Loops : int32_t {
  keep,
  drop,
  apart,  // they are no entries of the result: their sums follow those of the entries, one for each cluster
};

struct GraphContract {
  Csr graph;            // of values of type T, double if `double_value`, else float; null: all ones
  const void* cluster;  // [rows]: cluster of each node; negative: the node is dropped
  Members members;
  const int64_t* ptr;  // first cluster of each graph, and the number of clusters; null: there is one graph
  Loops loops;
  bool injective;  // no cluster has more than one node
  bool symmetric;  // the graph equals its transpose: the sums do so, too
  bool want_sum, want_slot;
  bool double_value;

  // Allocates an output once its size is known; called at most once for each.
  enum Output : int32_t { rowptr, col, value, slot };
  void* (*allocate)(void* context, Output output, int64_t count);
  void* context;
};

struct ContractedGraph {
  int64_t entries;
  bool merged;  // an entry is the sum of several
};

namespace cpu {

// The matrix of the clusters. Its columns ascend and differ. value [entries, and clusters if loops are apart] are sums
// in node order, taken in double; slot [entries of the graph] is the place of each entry among them, -1: dropped.
// The result does not depend on runtime.threads.
ContractedGraph graph_contract(const GraphContract& contract, const Runtime& runtime);

}  // namespace cpu
}  // namespace hierpool
