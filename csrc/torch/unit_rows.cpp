// hierpool_native::unit_rows_ and unit_rows_backward, pieces of the GraphSAGE layer of hierpool.nn.
#include "hierpool/unit_rows.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "torch/runtime.h"

namespace hierpool::torch_binding {
namespace {

// The distance of rows whose elements are contiguous.
int64_t row_stride(const Tensor& t, const UnitRows& shape) {
  const ScalarType type = shape.is_double ? ScalarType::Double : ScalarType::Float;
  STD_TORCH_CHECK(t.dim() == 2 && t.size(0) == shape.rows && t.size(1) == shape.n && t.scalar_type() == type,
                  "rows must have one shape, and the dtype float32 or float64");
  STD_TORCH_CHECK(shape.n <= 1 || t.stride(1) == 1, "elements of a row must be contiguous");
  return shape.rows <= 1 ? shape.n : t.stride(0);
}

UnitRows shape_of(const Tensor& t, bool relu) {
  STD_TORCH_CHECK(t.dim() == 2, "rows must have shape [R, n]");
  return {t.size(0), t.size(1), t.scalar_type() == ScalarType::Double, relu};
}

std::tuple<Tensor, Tensor> unit_rows(Tensor h, bool relu) {
  const UnitRows shape = shape_of(h, relu);
  const int64_t stride = row_stride(h, shape);
  Tensor out = empty({shape.rows, shape.n}, h.scalar_type());
  Tensor length = empty({shape.rows, 1}, h.scalar_type());
  cpu::unit_rows_fwd(shape, h.data_ptr(), stride, length.data_ptr(), out.data_ptr(), runtime());
  return {out, length};
}

void unit_rows_backward(Tensor dout, Tensor y, Tensor length, bool relu, Tensor dh) {
  const UnitRows shape = shape_of(dh, relu);
  const int64_t stride = row_stride(dh, shape);
  STD_TORCH_CHECK(row_stride(y, shape) == stride, "y and dh must have one stride");
  STD_TORCH_CHECK(length.numel() == shape.rows && length.scalar_type() == dh.scalar_type(),
                  "every row must have a length");
  cpu::unit_rows_bwd(shape, dout.data_ptr(), row_stride(dout, shape), y.data_ptr(), pointer(length),
                     dh.data_ptr(), stride, runtime());
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(hierpool_native, m) {
  m.def("unit_rows_(Tensor(a!) h, bool relu) -> (Tensor out, Tensor length)");
  m.def("unit_rows_backward(Tensor dout, Tensor y, Tensor length, bool relu, Tensor(a!) dh) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(hierpool_native, CPU, m) {
  m.impl("unit_rows_", TORCH_BOX(&unit_rows));
  m.impl("unit_rows_backward", TORCH_BOX(&unit_rows_backward));
}

}  // namespace hierpool::torch_binding
