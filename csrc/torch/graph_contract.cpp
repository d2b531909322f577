// hierpool_native::graph_contract. Arguments were checked by hierpool.
#include "hierpool/graph_contract.h"

#include <torch/csrc/stable/library.h>

#include <tuple>
#include <utility>

#include "torch/csr.h"
#include "torch/graph_contract.h"
#include "torch/runtime.h"

namespace hierpool::torch_binding {
namespace {

struct Outputs {
  ScalarType index, value_type;
  OptionalTensor tensors[4] = {};

  static void* allocate(void* context, GraphContract::Output output, int64_t count) {
    auto& self = *static_cast<Outputs*>(context);
    OptionalTensor& t = self.tensors[output];
    t = empty({count}, output == GraphContract::value ? self.value_type : self.index);
    return t->data_ptr();
  }
};

}  // namespace

Contracted contracted(const Tensor& rowptr, const Tensor& col, const OptionalTensor& value,
                      const Tensor& cluster, const Tensor& first, const Tensor& node, const Tensor& ptr,
                      const ContractOptions& options) {
  const ScalarType index = rowptr.scalar_type();
  STD_TORCH_CHECK(
      cluster.scalar_type() == index && first.scalar_type() == index && node.scalar_type() == index,
      "clusters must have the index type of the graph");
  const bool is_double = value && value->scalar_type() == ScalarType::Double;
  const ScalarType type = is_double ? ScalarType::Double : ScalarType::Float;
  Outputs out{index, type};
  GraphContract c{};
  c.graph = csr(rowptr, col, value, is_double);
  c.cluster = pointer(cluster);
  c.members = {first.numel() - 1, pointer(first), pointer(node)};
  STD_TORCH_CHECK(ptr.scalar_type() == ScalarType::Long, "ptr must be int64");
  c.ptr = static_cast<const int64_t*>(pointer(ptr));
  c.loops = static_cast<Loops>(options.loops);
  c.injective = options.injective, c.symmetric = options.symmetric;
  c.want_sum = options.want_sum, c.want_slot = options.want_slot;
  c.double_value = is_double;
  c.allocate = Outputs::allocate, c.context = &out;
  const ContractedGraph done = cpu::graph_contract(c, runtime());
  auto& [out_rowptr, out_col, out_value, out_slot] = out.tensors;
  return {std::move(*out_rowptr), std::move(*out_col), std::move(out_value), std::move(out_slot),
          done.merged};
}

namespace {

Contracted graph_contract(Tensor rowptr, Tensor col, OptionalTensor value, Tensor cluster, Tensor first,
                          Tensor node, Tensor ptr, int64_t loops, bool injective, bool symmetric,
                          bool want_sum, bool want_slot) {
  return contracted(rowptr, col, value, cluster, first, node, ptr,
                    {loops, injective, symmetric, want_sum, want_slot});
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(hierpool_native, m) {
  m.def(
      "graph_contract(Tensor rowptr, Tensor col, Tensor? value, Tensor cluster, Tensor first, Tensor node, "
      "Tensor ptr, int loops, bool injective, bool symmetric, bool want_sum, bool want_slot)"
      " -> (Tensor, Tensor, Tensor?, Tensor?, bool)");
}

STABLE_TORCH_LIBRARY_IMPL(hierpool_native, CPU, m) { m.impl("graph_contract", TORCH_BOX(&graph_contract)); }

}  // namespace hierpool::torch_binding
