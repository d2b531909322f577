// Arguments of operators on the rows at the ends of the entries of a sparse matrix.
#pragma once

#include "hierpool/edge_distances.h"
#include "torch/csr.h"
#include "torch/soft_pool.h"

namespace hierpool::torch_binding {

// x and value have the type in which is summed.
struct EdgeArguments {
  EdgeRows rows;
  int64_t ptr_of_one[2];

  EdgeArguments(const Tensor& rowptr, const Tensor& col, const OptionalTensor& value,
                const OptionalTensor& ptr, const Tensor& x) {
    const bool is_double = x.scalar_type() == ScalarType::Double;
    STD_TORCH_CHECK(is_double || x.scalar_type() == ScalarType::Float, "x must have the accumulation type");
    check_rows(x, "x");
    const int64_t n = x.size(1);
    rows = {csr(rowptr, col, value, is_double), is_double, x.data_ptr(), n, row_stride(x, n), 1, ptr_of_one};
    ptr_of_one[0] = 0, ptr_of_one[1] = rows.a.rows;
    STD_TORCH_CHECK(rows.a.rows == x.size(0), "x and rowptr disagree");
    if (ptr) {
      rows.ptr = graphs_of(*ptr, rows.a.rows);
      rows.graphs = ptr->numel() - 1;
    }
  }
  EdgeArguments(const EdgeArguments&) = delete;
  EdgeArguments& operator=(const EdgeArguments&) = delete;
};

}  // namespace hierpool::torch_binding
