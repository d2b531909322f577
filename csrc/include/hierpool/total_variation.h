// Contract of the total variation of rows over the edges of graphs, on the CPU: the sum of a_ij |x_i - x_j|_1. Acc is
// double if `is_double`, else float.
#pragma once

#include <cstdint>

#include "hierpool/edge_distances.h"
#include "hierpool/soft_pool.h"

namespace hierpool {

struct DenseVariation {
  PoolBatch batch;  // without features: F = 0
  const void* s;    // [B, N, K]
  int64_t s_stride_b, s_stride_n;
};

namespace cpu {

// The result does not depend on runtime.threads.

// variation[graph] = sum a_ij |x_i - x_j|_1 over the entries of the graph that are not 0, and their number: [graphs] Acc.
// The gradient for sparse graphs is edge_distances_bwd; that of the values of A is edge_distances_fwd.
void total_variation_fwd(const EdgeRows& args, void* variation, void* entries, const Runtime& runtime);
void total_variation_fwd(const DenseVariation& args, const DenseAdjacency& adjacency, void* variation,
                         void* entries, const Runtime& runtime);

// ds_i = dvariation[graph] sum_j (a_ij + a_ji) sign(s_i - s_j), of the type of S;
// da_ij = dvariation[graph] |s_i - s_j|_1 at all pairs of valid nodes, of the type of A.
// Both are contiguous and 0 in padding; null if not needed.
void total_variation_bwd(const DenseVariation& args, const DenseAdjacency& adjacency, const void* dvariation,
                         void* ds, void* dadjacency, const Runtime& runtime);

}  // namespace cpu
}  // namespace hierpool
