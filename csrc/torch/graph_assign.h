// Assignments of each node to at most one cluster, of torch tensors.
#pragma once

#include <tuple>

#include "torch/runtime.h"

namespace hierpool::torch_binding {

// Whether it is valid; cluster_ptr, rowptr, cluster, of_row, first, row and entry.
using Assigned = std::tuple<bool, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// The arguments are those of cpu::assign_heads.
Assigned assign_heads(Tensor head, Tensor ptr, OptionalTensor order, bool pairs);

// The arguments are those of cpu::assign_kept.
Assigned assigned_kept(const Tensor& index, const Tensor& ptr, const OptionalTensor& order, int64_t num_nodes,
                       int64_t* position);

}  // namespace hierpool::torch_binding
