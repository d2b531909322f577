// Selection of nodes of torch tensors.
#pragma once

#include <tuple>

#include "torch/runtime.h"

namespace hierpool::torch_binding {

// The node that each node is matched with, and whether no score is NaN.
std::tuple<Tensor, bool> match(Tensor rowptr, Tensor col, OptionalTensor rowptr_t, OptionalTensor col_t,
                               OptionalTensor source, Tensor ptr, OptionalTensor score, bool loops,
                               int64_t seed);

// The first node of the set for each node, and whether no priority is NaN. With `greedy`, the priority is divided by the
// number of walks of at most one edge that end in the node.
std::tuple<Tensor, bool> mis(Tensor rowptr, Tensor col, OptionalTensor rowptr_t, OptionalTensor col_t,
                             OptionalTensor source, Tensor ptr, OptionalTensor priority, bool greedy,
                             int64_t hops, int64_t seed);

// order: the element of score of each row; nothing: the same. Returns the elements that are kept, the first of each graph,
// and whether none of score is NaN.
std::tuple<Tensor, Tensor, bool> topk(Tensor score, Tensor ptr, OptionalTensor order, int64_t over,
                                      int64_t under, int64_t most);

}  // namespace hierpool::torch_binding
