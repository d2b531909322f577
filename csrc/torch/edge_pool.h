// Rows of torch tensors that are pooled in pairs.
#pragma once

#include "torch/runtime.h"

namespace hierpool::torch_binding {

// The larger score of the two entries of the pair of each node, 1 without one. mate has the type of col.
Tensor edge_factors(Tensor score, Tensor rowptr, Tensor col, Tensor mate);

}  // namespace hierpool::torch_binding
