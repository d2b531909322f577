// Linear maps of torch tensors.
#pragma once

#include <utility>
#include <vector>

#include "hierpool/linear_maps.h"
#include "torch/runtime.h"

namespace hierpool::torch_binding {

// Weights and biases in turn, of one dtype, float32 or float64, for rows of `inputs` elements.
class TensorMaps {
 public:
  TensorMaps(const std::vector<Tensor>& tensors, int64_t inputs, ScalarType type);

  LinearMaps of_rows(int64_t rows, const OptionalTensor& mask) const;
  int64_t outputs() const { return maps_.back().outputs; }

  // Tensors for the gradients, in turn, and where they are.
  std::pair<std::vector<Tensor>, std::vector<LinearMapGradient>> gradients() const;

 private:
  int64_t inputs_;
  ScalarType type_;
  std::vector<LinearMap> maps_;
};

}  // namespace hierpool::torch_binding
