// Contract of the total variation of the rows of a matrix over the edges of graphs on the CPU, and of what it consists
// of: |x_i - x_j|_1 at the entries (i, j) of A. Acc is double where `wide`, else float.
#pragma once

#include <cstdint>

#include "hierpool/csr.h"
#include "hierpool/soft_pool.h"

namespace hierpool {

// Rows at the ends of the entries of a sparse matrix.
struct SparseVariation {
  Csr a;  // values of type Acc
  bool wide;
  const void* x;  // [rows, n]  Acc; rows are contiguous and do not overlap
  int64_t n, x_stride;
  int64_t graphs;      // whose rows follow one another
  const int64_t* ptr;  // [graphs + 1]: first row of each
};

struct DenseVariation {
  PoolBatch batch;  // without features: F = 0
  const void* s;    // [B, N, K]
  int64_t s_stride_b, s_stride_n;
};

namespace cpu {

// The same bits for the same input whatever runtime.threads is.

// variation[graph] = sum a_ij |x_i - x_j|_1 over the entries of the graph that are not 0, and their number: [graphs] Acc
void total_variation(const SparseVariation& args, void* variation, void* entries, const Runtime& runtime);
void total_variation(const DenseVariation& args, const DenseAdjacency& adjacency, void* variation,
                     void* entries, const Runtime& runtime);

// out[e] = scale[graph] |x_i - x_j|_1 for every entry e = (i, j) of A, whose values are not read; scale may be null: 1
void edge_distances(const SparseVariation& args, const void* scale, void* out, const Runtime& runtime);

// out_i = scale[graph] sum a_ij sign(x_i - x_j) over the entries of row i of A, then those of another matrix `also` of
// the same rows, unless it has no rowptr; sign(0) = 0, scale may be null: 1. [rows, n] Acc
void signed_sums(const SparseVariation& args, const Csr& also, const void* scale, void* out,
                 const Runtime& runtime);

// ds_i = dvariation[graph] sum_j (a_ij + a_ji) sign(s_i - s_j), of the type of S; da_ij = dvariation[graph] |s_i -
// s_j|_1 at all pairs of valid nodes, of the type of A. Contiguous, 0 in padding; null where not needed.
void total_variation_backward(const DenseVariation& args, const DenseAdjacency& adjacency,
                              const void* dvariation, void* ds, void* dadjacency, const Runtime& runtime);

}  // namespace cpu
}  // namespace hierpool
