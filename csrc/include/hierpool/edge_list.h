// Contract of pooling edges that are given as a list, on the CPU.
#pragma once

#include <cstdint>

#include "hierpool/runtime.h"

namespace hierpool {

// The edges of a graph in the order in which they are given.
struct EdgeFilter {
  int64_t edges;
  const int64_t* source;  // [edges]
  const int64_t* target;  // [edges]
  int64_t nodes;
  const int64_t* number;  // [nodes]: new number of each node; negative: its edges are dropped

  // Allocates the outputs [count] once their size is known: sources and targets in new numbers, and the kept edges.
  struct Outputs {
    int64_t* source;
    int64_t* target;
    int64_t* kept;  // null: not wanted
  };
  Outputs (*allocate)(void* context, int64_t count);
  void* context;
};

// Edges whose ends are merged into clusters.
struct EdgeMerge {
  int64_t edges;
  const int64_t* source;  // [edges]
  const int64_t* target;  // [edges]
  int64_t nodes;
  const int64_t* cluster;  // [nodes]: from 0 to clusters - 1
  int64_t clusters;
  bool drop_loops;

  // Allocates the ends [count] of the different edges once their number is known.
  struct Outputs {
    int64_t* source;
    int64_t* target;
  };
  Outputs (*allocate)(void* context, int64_t count);
  void* context;
};

namespace cpu {

// Returns the first edge with a node that does not exist, before anything is allocated; -1: all do.
int64_t filter_edges(const EdgeFilter& filter, const Runtime& runtime);

// The different edges between clusters, sorted. slot [edges], unless null: which of them each edge becomes; -1: it is
// dropped. Returns the first edge with a node that does not exist, before anything is allocated; -1: all do.
int64_t merge_edges(const EdgeMerge& merge, int64_t* slot);

}  // namespace cpu
}  // namespace hierpool
