// Contract of rows of nodes that are merged in pairs, times the score of an entry that joins the two, on the CPU.
#pragma once

#include <cstdint>

#include "hierpool/activation.h"
#include "hierpool/csr.h"
#include "hierpool/runtime.h"

namespace hierpool {

// score_e of the entry e = (i, j) is activation(<w, [x_i, x_j]> + b) plus a constant. The factor of a node is the larger
// score of the two entries that join it with its mate, or 1 without one; y_k is the sum of the rows of the nodes of
// cluster k times their factors. T is double where `is_double`, else float; I is int64_t where graph.int64_index, else
// int32_t. Columns ascend in each row.
struct EdgePool {
  Csr graph;  // without values
  int64_t n, clusters;
  bool is_double;
  Activation activation;  // softmax: over entries of the same column
  const void* x;          // [rows, n]
  const void* weight;     // [2 n]: w
  const void* known;      // [E]: scores without the constant
  const void* score;      // [E]
  const void* mate;       // [rows]; -1: none
  const void* first;      // [clusters + 1]
  const void* node;       // [rows]: the nodes of each cluster
  const void* dy;         // [clusters, n]: gradient of y; null: 0
  const void* dscore;     // [E]; null: 0
  const void* dfactor;    // [rows]; null: 0
};

namespace cpu {

// out[E], the linear map with bias[1], of graph, n, is_double, x and weight.
void edge_linear(const EdgePool& pool, const void* bias, void* out, const Runtime& runtime);

// factor[rows], of graph, is_double, score and mate.
void edge_factors(const EdgePool& pool, void* factor, const Runtime& runtime);

// dx[rows, n], dweight[2 n] and dbias[1]. Of equal scores of a pair, each gets half of the gradient. The results do not
// depend on runtime.threads.
void edge_pool_bwd(const EdgePool& pool, void* dx, void* dweight, void* dbias, const Runtime& runtime);

}  // namespace cpu
}  // namespace hierpool
