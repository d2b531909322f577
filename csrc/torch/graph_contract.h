// Contraction of matrices of torch tensors.
#pragma once

#include <tuple>

#include "torch/runtime.h"

namespace hierpool::torch_binding {

// What a contraction is to be like: fields of GraphContract.
struct ContractOptions {
  int64_t loops;  // a number of hierpool::Loops
  bool injective, symmetric, want_sum, want_slot;
};

// Rows, columns, values and slots, of which the last two are nothing if they are not wanted, and whether entries were
// merged.
using Contracted = std::tuple<Tensor, Tensor, OptionalTensor, OptionalTensor, bool>;

// The matrix of the clusters cluster [rows], whose nodes are first and node, of graphs whose first clusters are ptr.
Contracted contracted(const Tensor& rowptr, const Tensor& col, const OptionalTensor& value,
                      const Tensor& cluster, const Tensor& first, const Tensor& node, const Tensor& ptr,
                      const ContractOptions& options);

}  // namespace hierpool::torch_binding
