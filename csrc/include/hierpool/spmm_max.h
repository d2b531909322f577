// Contract of extremes over the rows that a sparse matrix gathers, on the CPU. T is double where `is_double`, else float.
#pragma once

#include <cstdint>

#include "hierpool/csr.h"
#include "hierpool/runtime.h"
#include "hierpool/spmm.h"

namespace hierpool::cpu {

// The results do not depend on runtime.threads. NaN counts as extreme; of equal extremes the first counts.

// out[rows, n]: the largest or smallest value[e] x[col[e]] over the entries of each row, and column [rows, n], of the
// index type of A, the column that it came from; 0 and `none` in rows without entries.
void spmm_max_fwd(const Spmm& product, const DenseMatrix& x, bool smallest, int64_t none, void* out,
                  void* column, const Runtime& runtime);

// Gradients of x, [columns, n], and of the values, in the order of the entries of the transpose, unless null.
// `transpose` is that of A; x is not read without dvalue.
void spmm_max_bwd(const Spmm& transpose, const DenseMatrix& x, const void* dout, const void* column, void* dx,
                  void* dvalue, const Runtime& runtime);

}  // namespace hierpool::cpu
