// Contract of selecting nodes and pairs of nodes on the CPU. Nodes are rows of the matrix; results do not depend on the
// number of threads, on the order of graphs, or on other graphs of the batch.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

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
  const void* score;  // [E] of the entries of `a`; null: all equal
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
// Returns false if a score is NaN.
bool match(const MatchProblem& problem, int64_t* mate, const Runtime& runtime);

// The lexicographically first maximal set of nodes with no two of them within `hops` edges, in descending order of
// (priority[N], hash of the node); a priority that is null is that of all nodes. head[N]: the first node of the set within
// `hops` edges of each node, itself for nodes of the set. Returns false if a priority is NaN.
template <typename T>
bool maximal_independent_set(const Neighbours& graph, const Blocks& blocks, const T* priority, int64_t hops,
                             uint64_t seed, int64_t* head);

// Divides the score of each node by the number of walks of at most one edge that end in it; `ending`: the entries of row i
// end in node i.
template <typename T>
void divide_by_walks(const Csr& ending, T* score);

// The rows of each graph in descending order of their scores [N], ties in the order of rows; the first count[b] of them are
// written to kept[], graph by graph.
template <typename T>
void topk(const Blocks& blocks, const T* score, const int64_t* count, int64_t* kept, const Runtime& runtime);

// How many of n rows are kept: min(most, ceil(n * over / under)).
struct KeptRows {
  int64_t over, under, most;
  int64_t operator()(int64_t n) const { return std::min(most, (n * over + under - 1) / under); }
};

// The same for rows whose graphs batch[n] are in any order; kept[] are rows. Returns false if a score is NaN.
template <typename T>
bool topk_in_batch(int64_t n, const int64_t* batch, const T* score, const KeptRows& rows,
                   std::vector<int64_t>& kept, const Runtime& runtime);

// first[N]: the first node of the connected component of each node, over the entries with usable[E] != 0, or over all
// entries if it is null. Entries join their nodes in both directions.
void components(const Csr& a, const uint8_t* usable, int64_t* first);

// Halves of each connected component by the signs of the largest eigenvector of its normalised Laplacian. Where they cut
// less than half of the weight, nodes change sides while that cuts more. `a` is symmetric, of double or no values, which
// are not negative; entries of the diagonal and of weight 0 are ignored. kept[N]: 1 for the half with the largest
// element of the eigenvector, and for components of one node.
void spectral_sign(const Csr& a, const Blocks& blocks, uint64_t seed, uint8_t* kept, const Runtime& runtime);

// Labels spread along entries for `hops` rounds: a node without a label gets the most frequent one of the nodes whose
// entries end in it, of equally frequent ones the smallest. inward: the transpose of the matrix. label[N]: -1 for nodes
// without a label, also for those that are not reached.
void propagate(const Csr& inward, int64_t hops, int64_t* label, const Runtime& runtime);

}  // namespace cpu
}  // namespace hierpool
