// Contract of selecting nodes and pairs of nodes on the CPU. Nodes are rows of the matrix; results do not depend on the
// number of threads, on the order of graphs, or on other graphs of the batch.
#pragma once

#include <cstdint>

#include "hierpool/csr.h"
#include "hierpool/runtime.h"

namespace hierpool {

// The blocks of a block-diagonal matrix: graph b has the rows ptr[b] to ptr[b + 1] - 1.
struct Blocks {
  int64_t graphs;
  const int64_t* ptr;  // [graphs + 1]
};

// The entries of row i are joined with those of column i. Without a transpose, the matrix has to be symmetric.
struct Neighbours {
  Csr a, transpose;  // transpose.rowptr is null if there is none
  const void*
      source;  // [E] the entry of `a` of each entry of the transpose; int64 if a.int64_index, else int32
};

struct MatchProblem {
  Neighbours graph;
  Blocks blocks;
  bool is_double;     // scores are double, else float
  const void* score;  // [E] of the entries of `a`, no NaN; null: all equal
  bool loops;         // an entry of the diagonal matches a node with itself; otherwise it is ignored
  uint64_t seed;
};

// Clusters by moves of nodes on a hierarchy of coarser graphs.
struct ClusteringProblem {
  Csr graph;  // symmetric; values are double and not negative
  Blocks blocks;
  bool cut;             // minimise the weight between clusters; else maximise the modularity
  double resolution;    // of the modularity
  const int64_t* most;  // [graphs] clusters
  bool exact;  // as many clusters as `most`, or as nodes if these are fewer; else as many as are best
  const int64_t* largest;  // [graphs] nodes of a cluster
  const int64_t* start;    // [N] a clustering to improve, numbers below the nodes of the graph; null: none
  int64_t cycles;          // of coarsening and refinement
  uint64_t seed;
};

namespace cpu {

// cluster[N], numbered in each graph in the order of first nodes.
void multilevel_clusters(const ClusteringProblem& problem, int64_t* cluster, const Runtime& runtime);

// Greedy matching in descending order of (score, hash of the two nodes, nodes), where the score of two nodes is the larger
// one of their two entries; entries of -inf are ignored. mate[N]: the other node of the pair, -1 for nodes without one.
void match(const MatchProblem& problem, int64_t* mate, const Runtime& runtime);

// The lexicographically first maximal set of nodes with no two of them within `hops` edges, in the order order[N] of
// all nodes. head[N]: the first node of the set within `hops` edges of each node, itself for nodes of the set.
void maximal_independent_set(const Neighbours& graph, const int64_t* order, int64_t hops, int64_t* head);

// The rows of each graph in descending order of their scores [N], ties in the order of rows; the first count[b] of them are
// written to kept[], graph by graph.
template <typename T>
void topk(const Blocks& blocks, const T* score, const int64_t* count, int64_t* kept, const Runtime& runtime);

}  // namespace cpu
}  // namespace hierpool
