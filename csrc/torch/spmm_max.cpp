// hierpool_native::spmm_max and spmm_max_backward. Arguments were checked by hierpool.ops.
#include "hierpool/spmm_max.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "torch/csr.h"
#include "torch/runtime.h"

namespace hierpool::torch_binding {
namespace {

// x, whose rows are contiguous, and value have one type.
std::tuple<Tensor, Tensor> spmm_max(Tensor rowptr, Tensor col, OptionalTensor value, Tensor x,
                                    bool smallest) {
  const bool is_double = x.scalar_type() == ScalarType::Double;
  const int64_t n = x.size(1);
  const Spmm product{csr(rowptr, col, value, is_double), is_double, n};
  Tensor out = empty({product.a.rows, n}, x.scalar_type()),
         column = empty({product.a.rows, n}, col.scalar_type());
  cpu::spmm_max_fwd(product, {pointer(x), n}, smallest, x.size(0), out.data_ptr(), column.data_ptr(),
                    runtime());
  return {out, column};
}

// The matrix is the transpose. Returns the gradients of x and, of no elements unless it is wanted, of value.
std::tuple<Tensor, Tensor> spmm_max_backward(Tensor rowptr, Tensor col, OptionalTensor value, Tensor x,
                                             Tensor dout, Tensor column, bool want_value) {
  const bool is_double = x.scalar_type() == ScalarType::Double;
  const int64_t n = x.size(1);
  const Spmm transpose{csr(rowptr, col, value, is_double), is_double, n};
  STD_TORCH_CHECK(dout.scalar_type() == x.scalar_type() && column.scalar_type() == col.scalar_type() &&
                      x.size(0) == transpose.a.rows,
                  "types or sizes disagree");
  Tensor dx = empty({x.size(0), n}, x.scalar_type()),
         dvalue = empty({want_value ? col.numel() : 0}, x.scalar_type());
  cpu::spmm_max_bwd(transpose, {pointer(x), n}, pointer(dout), pointer(column), dx.data_ptr(),
                    want_value ? dvalue.data_ptr() : nullptr, runtime());
  return {dx, dvalue};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(hierpool_native, m) {
  m.def("spmm_max(Tensor rowptr, Tensor col, Tensor? value, Tensor x, bool smallest) -> (Tensor, Tensor)");
  m.def(
      "spmm_max_backward(Tensor rowptr, Tensor col, Tensor? value, Tensor x, Tensor dout, Tensor column, bool"
      " want_value) -> (Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(hierpool_native, CPU, m) {
  m.impl("spmm_max", TORCH_BOX(&spmm_max));
  m.impl("spmm_max_backward", TORCH_BOX(&spmm_max_backward));
}

}  // namespace hierpool::torch_binding
