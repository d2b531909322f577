// hierpool_native::linear_rows and linear_rows_backward, the perceptron of a pooler on padded batches.
#include "hierpool/linear_rows.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "torch/runtime.h"

namespace hierpool::torch_binding {
namespace {

using torch::headeronly::ScalarType;
using OptionalTensor = std::optional<Tensor>;

// The distance of rows [rows, n] of the map's dtype, whose elements are contiguous.
int64_t row_stride(const Tensor& t, const LinearRows& shape, int64_t n) {
  const ScalarType type = shape.wide ? ScalarType::Double : ScalarType::Float;
  STD_TORCH_CHECK(t.dim() == 2 && t.size(0) == shape.rows && t.size(1) == n && t.scalar_type() == type,
                  "rows and weight must agree in shape, and have one dtype, float32 or float64");
  STD_TORCH_CHECK(n <= 1 || t.stride(1) == 1, "elements of a row must be contiguous");
  return shape.rows <= 1 ? n : t.stride(0);
}

LinearRows shape_of(const Tensor& x, const OptionalTensor& mask, const Tensor& weight) {
  STD_TORCH_CHECK(x.dim() == 2 && weight.dim() == 2, "rows and weight must have two dimensions");
  STD_TORCH_CHECK(!mask || mask->numel() == x.size(0), "every row must have an element of the mask");
  STD_TORCH_CHECK(!mask || mask->scalar_type() == ScalarType::Bool, "the mask must be of bool");
  const bool wide = x.scalar_type() == ScalarType::Double;
  STD_TORCH_CHECK(weight.scalar_type() == x.scalar_type(), "rows and weight must have one dtype");
  return {x.size(0), weight.size(1), weight.size(0), static_cast<const uint8_t*>(pointer(mask)), wide};
}

Tensor linear_rows(Tensor x, OptionalTensor mask, Tensor weight, Tensor bias) {
  const LinearRows shape = shape_of(x, mask, weight);
  STD_TORCH_CHECK(bias.numel() == shape.outputs && bias.scalar_type() == x.scalar_type(),
                  "every output must have a bias");
  const int64_t stride = row_stride(x, shape, shape.inputs);
  Tensor y = empty({shape.rows, shape.outputs}, x.scalar_type());
  cpu::linear_rows(shape, x.data_ptr(), stride, pointer(weight), pointer(bias), y.data_ptr(), runtime());
  return y;
}

// -> dx, dweight, dbias, of one dimension of size 0 where they are not needed
std::tuple<Tensor, Tensor, Tensor> linear_rows_backward(Tensor dy, Tensor x, OptionalTensor mask,
                                                        Tensor weight, bool need_x, bool need_weight) {
  const LinearRows shape = shape_of(x, mask, weight);
  const int64_t stride = row_stride(x, shape, shape.inputs), dy_stride = row_stride(dy, shape, shape.outputs);
  const ScalarType type = x.scalar_type();
  Tensor dx = need_x ? empty({shape.rows, shape.inputs}, type) : empty({0}, type);
  Tensor dweight = need_weight ? empty({shape.outputs, shape.inputs}, type) : empty({0}, type);
  Tensor dbias = empty({need_weight ? shape.outputs : 0}, type);
  cpu::linear_rows_backward(shape, dy.data_ptr(), dy_stride, x.data_ptr(), stride, pointer(weight),
                            need_x ? dx.data_ptr() : nullptr, need_weight ? dweight.data_ptr() : nullptr,
                            need_weight ? dbias.data_ptr() : nullptr, runtime());
  return {dx, dweight, dbias};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(hierpool_native, m) {
  m.def("linear_rows(Tensor x, Tensor? mask, Tensor weight, Tensor bias) -> Tensor");
  m.def(
      "linear_rows_backward(Tensor dy, Tensor x, Tensor? mask, Tensor weight, bool need_x, bool need_weight)"
      " -> (Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(hierpool_native, CPU, m) {
  m.impl("linear_rows", TORCH_BOX(&linear_rows));
  m.impl("linear_rows_backward", TORCH_BOX(&linear_rows_backward));
}

}  // namespace hierpool::torch_binding
