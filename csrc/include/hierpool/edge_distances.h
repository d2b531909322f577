// Contract of the distances |x_i - x_j|_1 at the entries (i, j) of a sparse A, on the CPU. Acc is double if
// `is_double`, else float.
#pragma once

#include <cstdint>

#include "hierpool/csr.h"
#include "hierpool/runtime.h"

namespace hierpool {

// The rows x_i and x_j at the ends of the entries (i, j) of A.
struct EdgeRows {
  Csr a;  // values of type Acc
  bool is_double;
  const void* x;  // [rows, n]  Acc; rows are contiguous and do not overlap
  int64_t n, x_stride;
  int64_t graphs;      // whose rows follow one another
  const int64_t* ptr;  // [graphs + 1]: first row of each
};

namespace cpu {

// The result does not depend on runtime.threads.

// out[e] = scale[graph] |x_i - x_j|_1 for every entry e = (i, j) of A, whose values are not read. scale may be null: 1.
void edge_distances_fwd(const EdgeRows& args, const void* scale, void* out, const Runtime& runtime);

// out_i = scale[graph] sum a_ij sign(x_i - x_j) over the entries of row i of A and then over those of `second`, a
// matrix of the same rows; without a rowptr it is ignored. sign(0) = 0; scale may be null: 1. out[rows, n] is of Acc.
// With the gradients of the distances as values, and the transpose as `second`, this is the gradient of x.
void edge_distances_bwd(const EdgeRows& args, const Csr& second, const void* scale, void* out,
                        const Runtime& runtime);

}  // namespace cpu
}  // namespace hierpool
