// hierpool_native::graph_contract. Arguments were checked by hierpool.
#include "hierpool/graph_contract.h"

#include <torch/csrc/stable/library.h>

#include <tuple>
#include <utility>

#include "torch/csr.h"
#include "torch/runtime.h"

namespace hierpool::torch_binding {
namespace {

struct Outputs {
  ScalarType index, value_type;
  Tensor tensors[4];

  static void* allocate(void* context, GraphContract::Output output, int64_t count) {
    auto& self = *static_cast<Outputs*>(context);
    Tensor& t = self.tensors[output];
    t = empty({count}, output == GraphContract::value ? self.value_type : self.index);
    return t.data_ptr();
  }
};

// Returns rowptr, col, value, slot, of which the last two have no element if they are not wanted, and whether entries
// were merged. loops: a number of hierpool::Loops.
std::tuple<Tensor, Tensor, Tensor, Tensor, bool> graph_contract(Tensor rowptr, Tensor col,
                                                                OptionalTensor value, Tensor cluster,
                                                                Tensor first, Tensor node, int64_t loops,
                                                                bool injective, bool symmetric, bool want_sum,
                                                                bool want_slot) {
  const ScalarType index = rowptr.scalar_type();
  STD_TORCH_CHECK(
      cluster.scalar_type() == index && first.scalar_type() == index && node.scalar_type() == index,
      "clusters must have the index type of the graph");
  const bool is_double = value && value->scalar_type() == ScalarType::Double;
  const ScalarType type = is_double ? ScalarType::Double : ScalarType::Float;
  Outputs out{index, type, {empty({0}, index), empty({0}, index), empty({0}, type), empty({0}, index)}};
  GraphContract c{};
  c.graph = csr(rowptr, col, value, is_double);
  c.cluster = pointer(cluster);
  c.members = {first.numel() - 1, pointer(first), pointer(node)};
  c.loops = static_cast<Loops>(loops);
  c.injective = injective, c.symmetric = symmetric, c.want_sum = want_sum, c.want_slot = want_slot;
  c.double_value = is_double;
  c.allocate = Outputs::allocate, c.context = &out;
  const ContractedGraph done = cpu::graph_contract(c, runtime());
  auto& [out_rowptr, out_col, sum, slot] = out.tensors;
  return {std::move(out_rowptr), std::move(out_col), std::move(sum), std::move(slot), done.merged};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(hierpool_native, m) {
  m.def(
      "graph_contract(Tensor rowptr, Tensor col, Tensor? value, Tensor cluster, Tensor first, Tensor node, "
      "int"
      " loops, bool injective, bool symmetric, bool want_sum, bool want_slot) -> (Tensor, Tensor, Tensor, "
      "Tensor,"
      " bool)");
}

STABLE_TORCH_LIBRARY_IMPL(hierpool_native, CPU, m) { m.impl("graph_contract", TORCH_BOX(&graph_contract)); }

}  // namespace hierpool::torch_binding
