// hierpool_native::spmm and sampled_product. Arguments were checked by hierpool.ops.
#include "hierpool/spmm.h"

#include <torch/csrc/stable/library.h>

#include "torch/csr.h"
#include "torch/runtime.h"

namespace hierpool::torch_binding {
namespace {

DenseMatrix dense_rows(const Tensor& t, bool is_double) {
  STD_TORCH_CHECK(t.scalar_type() == (is_double ? ScalarType::Double : ScalarType::Float),
                  "dense rows must have the accumulation type");
  const int64_t n = t.size(1);
  STD_TORCH_CHECK(n <= 1 || t.stride(1) == 1 || t.numel() == 0, "dense rows must be contiguous");
  return {t.data_ptr(), t.size(0) <= 1 ? n : t.stride(0)};
}

// x and value have the type in which is summed.
Tensor spmm(Tensor rowptr, Tensor col, OptionalTensor value, Tensor x) {
  const bool is_double = x.scalar_type() == ScalarType::Double;
  const Spmm product{csr(rowptr, col, value, is_double), is_double, x.size(1)};
  Tensor out = empty({product.a.rows, product.n}, x.scalar_type());
  cpu::spmm_fwd(product, dense_rows(x, is_double), out.data_ptr(), runtime());
  return out;
}

Tensor sampled_product(Tensor rowptr, Tensor col, Tensor left, Tensor right) {
  const bool is_double = left.scalar_type() == ScalarType::Double;
  const Spmm product{csr(rowptr, col, {}, is_double), is_double, left.size(1)};
  STD_TORCH_CHECK(left.size(0) == product.a.rows && right.size(1) == product.n, "sizes disagree");
  Tensor out = empty({col.numel()}, left.scalar_type());
  cpu::sampled_product(product, dense_rows(left, is_double), dense_rows(right, is_double), out.data_ptr(),
                       runtime());
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(hierpool_native, m) {
  m.def("spmm(Tensor rowptr, Tensor col, Tensor? value, Tensor x) -> Tensor");
  m.def("sampled_product(Tensor rowptr, Tensor col, Tensor left, Tensor right) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(hierpool_native, CPU, m) {
  m.impl("spmm", TORCH_BOX(&spmm));
  m.impl("sampled_product", TORCH_BOX(&sampled_product));
}

}  // namespace hierpool::torch_binding
