// Contract of products with a sparse matrix on the CPU. T is double where `is_double`, else float.
#pragma once

#include <cstdint>

#include "hierpool/csr.h"
#include "hierpool/runtime.h"

namespace hierpool {

// Rows of a dense matrix, which are contiguous and do not overlap.
struct DenseMatrix {
  const void* data;  // [rows, n]
  int64_t stride;
};

struct Spmm {
  Csr a;  // values of type T
  bool is_double;
  int64_t n;  // elements of a dense row
};

namespace cpu {

// The result does not depend on runtime.threads.

// out[rows, n] = A x
void spmm_fwd(const Spmm& product, const DenseMatrix& x, void* out, const Runtime& runtime);

// out[e] = <left[i], right[j]> for every entry e = (i, j) of A, whose values are not read
void sampled_product(const Spmm& product, const DenseMatrix& left, const DenseMatrix& right, void* out,
                     const Runtime& runtime);

}  // namespace cpu
}  // namespace hierpool
