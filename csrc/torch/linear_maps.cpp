// hierpool_native::linear_maps and linear_maps_backward, the perceptron of a pooler on padded batches.
#include "torch/linear_maps.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

namespace hierpool::torch_binding {

TensorMaps::TensorMaps(const std::vector<Tensor>& tensors, int64_t inputs, ScalarType type)
    : inputs_(inputs), type_(type) {
  STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double,
                  "linear maps take float32 and float64");
  STD_TORCH_CHECK(!tensors.empty() && tensors.size() % 2 == 0, "every weight must have a bias");
  for (size_t i = 0; i < tensors.size(); i += 2) {
    const Tensor &weight = tensors[i], &bias = tensors[i + 1];
    STD_TORCH_CHECK(weight.dim() == 2 && weight.size(1) == inputs && bias.numel() == weight.size(0),
                    "weights and biases must fit each other and the features");
    STD_TORCH_CHECK(weight.scalar_type() == type && bias.scalar_type() == type,
                    "features, weights and biases must have one dtype");
    inputs = weight.size(0);
    maps_.push_back({inputs, pointer(weight), pointer(bias)});
  }
}

LinearMaps TensorMaps::of_rows(int64_t rows, const OptionalTensor& mask) const {
  STD_TORCH_CHECK(!mask || (mask->numel() == rows && mask->scalar_type() == ScalarType::Bool),
                  "every row must have an element of the mask, of bool");
  return {rows,
          inputs_,
          static_cast<const uint8_t*>(pointer(mask)),
          type_ == ScalarType::Double,
          maps_.data(),
          static_cast<int64_t>(maps_.size())};
}

std::pair<std::vector<Tensor>, std::vector<LinearMapGradient>> TensorMaps::gradients() const {
  std::vector<Tensor> tensors;
  std::vector<LinearMapGradient> places;
  int64_t inputs = inputs_;
  for (const LinearMap& map : maps_) {
    tensors.push_back(empty({map.outputs, inputs}, type_));
    tensors.push_back(empty({map.outputs}, type_));
    places.push_back({tensors[tensors.size() - 2].data_ptr(), tensors.back().data_ptr()});
    inputs = map.outputs;
  }
  return {std::move(tensors), std::move(places)};
}

namespace {

// The distance of rows [rows, n], whose elements are contiguous.
int64_t row_stride(const Tensor& t, int64_t rows, int64_t n, ScalarType type) {
  STD_TORCH_CHECK(t.dim() == 2 && t.size(0) == rows && t.size(1) == n && t.scalar_type() == type,
                  "rows and maps must agree in shape and dtype");
  STD_TORCH_CHECK(n <= 1 || t.stride(1) == 1, "elements of a row must be contiguous");
  return rows <= 1 ? n : t.stride(0);
}

Tensor linear_maps(Tensor x, OptionalTensor mask, std::vector<Tensor> tensors) {
  const ScalarType type = x.scalar_type();
  const int64_t rows = x.size(0), inputs = x.size(1), stride = row_stride(x, rows, inputs, type);
  const TensorMaps maps(tensors, inputs, type);
  Tensor y = empty({rows, maps.outputs()}, type);
  cpu::linear_maps_fwd(maps.of_rows(rows, mask), x.data_ptr(), stride, y.data_ptr(), runtime());
  return y;
}

// -> dx, of one dimension of size 0 where it is not needed, and the gradients of the maps, or none
std::tuple<Tensor, std::vector<Tensor>> linear_maps_backward(Tensor dy, Tensor x, OptionalTensor mask,
                                                             std::vector<Tensor> tensors, bool need_x,
                                                             bool need_maps) {
  const ScalarType type = x.scalar_type();
  const int64_t rows = x.size(0), inputs = x.size(1), stride = row_stride(x, rows, inputs, type);
  const TensorMaps maps(tensors, inputs, type);
  const int64_t dy_stride = row_stride(dy, rows, maps.outputs(), type);
  Tensor dx = need_x ? empty({rows, inputs}, type) : empty({0}, type);
  std::vector<Tensor> grads;
  std::vector<LinearMapGradient> places;
  if (need_maps) std::tie(grads, places) = maps.gradients();
  cpu::linear_maps_bwd(maps.of_rows(rows, mask), dy.data_ptr(), dy_stride, x.data_ptr(), stride,
                       need_x ? dx.data_ptr() : nullptr, false, need_maps ? places.data() : nullptr,
                       runtime());
  return {std::move(dx), std::move(grads)};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(hierpool_native, m) {
  m.def("linear_maps(Tensor x, Tensor? mask, Tensor[] maps) -> Tensor");
  m.def(
      "linear_maps_backward(Tensor dy, Tensor x, Tensor? mask, Tensor[] maps, bool need_x, bool need_maps)"
      " -> (Tensor, Tensor[])");
}

STABLE_TORCH_LIBRARY_IMPL(hierpool_native, CPU, m) {
  m.impl("linear_maps", TORCH_BOX(&linear_maps));
  m.impl("linear_maps_backward", TORCH_BOX(&linear_maps_backward));
}

}  // namespace hierpool::torch_binding
