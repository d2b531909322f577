// hierpool_native::{topk_graph,mis_graph}: nodes are selected by their scores, become or find clusters, and the graph of
// these is made, in one call. Arguments were checked by hierpool.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <tuple>

#include "torch/graph_assign.h"
#include "torch/graph_contract.h"
#include "torch/selection.h"

namespace hierpool::torch_binding {
namespace {

// Whether no score is NaN; the tensors of the assignment, and those of its graph.
using Selected = std::tuple<bool, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,
                            Tensor, Tensor, bool>;

Selected refused() {
  const auto none = [] { return empty({0}, ScalarType::Long); };
  return {false,  none(), none(), none(), none(), none(), none(),
          none(), none(), none(), none(), none(), false};
}

Tensor as_int64(const Tensor& t) {
  if (t.scalar_type() == ScalarType::Long) return t;
  Tensor out = empty({t.numel()}, ScalarType::Long);
  const auto* const from = static_cast<const int32_t*>(pointer(t));
  std::copy_n(from, t.numel(), static_cast<int64_t*>(out.data_ptr()));
  return out;
}

// The assignment and the graph of its clusters.
Selected with_graph(const Assigned& assigned, const Tensor& rowptr, const Tensor& col,
                    const OptionalTensor& value, const ContractOptions& options) {
  const auto& [valid, ptr, row_begin, cluster, of_row, first, row, entry] = assigned;
  // The assignment of a graph with many entries may have fewer indices than that.
  const bool wide = col.scalar_type() == ScalarType::Long;
  const Tensor own = wide ? as_int64(of_row) : of_row, begin = wide ? as_int64(first) : first,
               node = wide ? as_int64(row) : row;
  return std::tuple_cat(assigned, contracted(rowptr, col, value, own, begin, node, ptr, options));
}

// Scores are those of the rows of the matrix. The other arguments are those of topk and of contracted.
Selected topk_graph(Tensor rowptr, Tensor col, OptionalTensor value, Tensor ptr, Tensor score, int64_t over,
                    int64_t under, int64_t most, int64_t loops, bool injective, bool symmetric, bool want_sum,
                    bool want_slot) {
  const auto [index, graph_first, valid] = topk(score, ptr, {}, over, under, most);
  if (!valid) return refused();
  return with_graph(kept(index, ptr, {}, score.numel()).assigned, rowptr, col, value,
                    {loops, injective, symmetric, want_sum, want_slot});
}

// The same by mis.
Selected mis_graph(Tensor rowptr, Tensor col, OptionalTensor rowptr_t, OptionalTensor col_t,
                   OptionalTensor source, OptionalTensor value, Tensor ptr, Tensor score, bool greedy,
                   int64_t hops, int64_t seed, int64_t loops, bool injective, bool symmetric, bool want_sum,
                   bool want_slot) {
  const auto [head, valid] = mis(rowptr, col, rowptr_t, col_t, source, ptr, score, greedy, hops, seed);
  if (!valid) return refused();
  return with_graph(assign_heads(head, ptr, {}, false), rowptr, col, value,
                    {loops, injective, symmetric, want_sum, want_slot});
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(hierpool_native, m) {
  m.def(
      "topk_graph(Tensor rowptr, Tensor col, Tensor? value, Tensor ptr, Tensor score, int over, int under, "
      "int most, int loops, bool injective, bool symmetric, bool want_sum, bool want_slot)"
      " -> (bool, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,"
      " Tensor, Tensor, Tensor, Tensor, bool)");
  m.def(
      "mis_graph(Tensor rowptr, Tensor col, Tensor? rowptr_t, Tensor? col_t, Tensor? source, Tensor? value, "
      "Tensor ptr, Tensor score, bool greedy, int hops, int seed, int loops, bool injective, "
      "bool symmetric, bool want_sum, bool want_slot)"
      " -> (bool, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,"
      " Tensor, Tensor, Tensor, Tensor, bool)");
}

STABLE_TORCH_LIBRARY_IMPL(hierpool_native, CPU, m) {
  m.impl("topk_graph", TORCH_BOX(&topk_graph));
  m.impl("mis_graph", TORCH_BOX(&mis_graph));
}

}  // namespace hierpool::torch_binding
