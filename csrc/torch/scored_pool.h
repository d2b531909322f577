// Rows of torch tensors that are pooled by their scores.
#pragma once

#include "torch/runtime.h"

namespace hierpool::torch_binding {

// X w + b, before the activation; w is divided by its norm with `unit`.
Tensor scored_pool_project(const Tensor& x, const Tensor& weight, const OptionalTensor& bias, bool unit);

// The rows of small clusters.
Tensor scored_pool(Tensor x, Tensor score, Tensor first, Tensor node, double multiplier);

}  // namespace hierpool::torch_binding
