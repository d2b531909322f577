// hierpool_native::{topk_pool,mis_pool,pair_pool}: nodes or pairs of them are selected by scores, they become or find
// clusters, and these are pooled, all in one call. Arguments were checked by hierpool.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <array>
#include <tuple>

#include "hierpool/activation.h"
#include "torch/edge_pool.h"
#include "torch/graph_assign.h"
#include "torch/graph_contract.h"
#include "torch/scored_pool.h"
#include "torch/selection.h"

namespace hierpool::torch_binding {
namespace {

// Whether no score is NaN; the scores; the rows of clusters, if these are small; the tensors of an Assigned; and a
// Contracted, the graph of the clusters.
using Pooled = std::tuple<bool, Tensor, OptionalTensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,
                          Tensor, Tensor, Tensor, OptionalTensor, OptionalTensor, bool>;

Pooled refused(const Tensor& score) {
  const Tensor none = empty({0}, ScalarType::Long);
  return {false, score, {}, none, none, none, none, none, none, none, none, none, {}, {}, false};
}

Tensor as_int64(const Tensor& t) {
  if (t.scalar_type() == ScalarType::Long) return t;
  Tensor out = empty({t.numel()}, ScalarType::Long);
  const auto* const from = static_cast<const int32_t*>(pointer(t));
  std::copy_n(from, t.numel(), static_cast<int64_t*>(out.data_ptr()));
  return out;
}

// Nodes of a matrix whose indices are those of col.
Tensor as_indices_of(const Tensor& col, const Tensor& node) {
  if (col.scalar_type() == ScalarType::Long) return node;
  Tensor out = empty({node.numel()}, ScalarType::Int);
  const auto* const from = static_cast<const int64_t*>(pointer(node));
  std::transform(from, from + node.numel(), static_cast<int32_t*>(out.data_ptr()),
                 [](int64_t i) { return static_cast<int32_t>(i); });
  return out;
}

Tensor shifted(const Tensor& known, double shift) {
  Tensor out = empty({known.numel()}, known.scalar_type());
  const auto add = [&]<typename T>(const T* from) {
    std::transform(from, from + known.numel(), static_cast<T*>(out.data_ptr()),
                   [by = static_cast<T>(shift)](T score) { return score + by; });
  };
  known.scalar_type() == ScalarType::Double ? add(static_cast<const double*>(pointer(known)))
                                            : add(static_cast<const float*>(pointer(known)));
  return out;
}

// The activation of torch, so that scores are the same, bit for bit, wherever they are computed.
Tensor scores_of(const Tensor& x, const Tensor& weight, const OptionalTensor& bias, bool unit,
                 int64_t activation) {
  const Tensor score = scored_pool_project(x, weight, bias, unit);
  const bool tanh = static_cast<Activation>(activation) == Activation::tanh;
  std::array<StableIValue, 1> stack{torch::stable::detail::from(score)};
  TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher(tanh ? "aten::tanh_" : "aten::sigmoid_", "", stack.data(), TORCH_ABI_VERSION));
  return torch::stable::detail::to<Tensor>(stack[0]);
}

// The rows, unless a cluster is so large that it should be more than one task.
template <typename I>
OptionalTensor rows_of_small(const Tensor& x, const Tensor& score, const Tensor& first, const Tensor& node,
                             double multiplier) {
  constexpr I kSmall = 1 << 10;
  const auto* const begin = static_cast<const I*>(pointer(first));
  const int64_t clusters = first.numel() - 1;
  I largest = 0;
  for (int64_t k = 0; k < clusters; ++k) largest = std::max(largest, begin[k + 1] - begin[k]);
  if (largest > kSmall) return {};
  return scored_pool(x, score, first, node, multiplier);
}

struct Batch {
  Tensor rowptr, col;
  OptionalTensor value;
};

Pooled pooled(const Tensor& x, const Tensor& score, double multiplier, const Assigned& assigned,
              const Batch& batch, const ContractOptions& options) {
  const auto& [valid, ptr, row_begin, cluster, of_row, first, row, entry] = assigned;
  // The assignment of a graph with many entries may have fewer indices than that.
  const bool wide = batch.col.scalar_type() == ScalarType::Long;
  const Tensor own = wide ? as_int64(of_row) : of_row, begin = wide ? as_int64(first) : first,
               node = wide ? as_int64(row) : row;
  const auto graph = contracted(batch.rowptr, batch.col, batch.value, own, begin, node, ptr, options);
  const OptionalTensor y = wide ? rows_of_small<int64_t>(x, score, begin, node, multiplier)
                                : rows_of_small<int32_t>(x, score, begin, node, multiplier);
  return std::tuple_cat(std::tuple(true, score, y, ptr, row_begin, cluster, of_row, first, row, entry),
                        graph);
}

// x are the rows of the matrix, in its order. The other arguments are those of topk and of contracted.
Pooled topk_pool(Tensor x, Tensor weight, OptionalTensor bias, bool unit, int64_t activation,
                 double multiplier, Tensor rowptr, Tensor col, OptionalTensor value, Tensor ptr, int64_t over,
                 int64_t under, int64_t most, int64_t loops, bool injective, bool symmetric, bool want_sum,
                 bool want_slot) {
  const Tensor score = scores_of(x, weight, bias, unit, activation);
  const auto [index, graph_first, valid] = topk(score, ptr, {}, over, under, most);
  if (!valid) return refused(score);
  return pooled(x, score, multiplier, assigned_kept(index, ptr, {}, x.size(0), nullptr), {rowptr, col, value},
                {loops, injective, symmetric, want_sum, want_slot});
}

// The same by mis, of which the priority is the score if it is absent.
Pooled mis_pool(Tensor x, Tensor weight, OptionalTensor bias, bool unit, int64_t activation,
                double multiplier, Tensor rowptr, Tensor col, OptionalTensor rowptr_t, OptionalTensor col_t,
                OptionalTensor source, OptionalTensor value, Tensor ptr, OptionalTensor priority, bool greedy,
                int64_t hops, int64_t seed, int64_t loops, bool injective, bool symmetric, bool want_sum,
                bool want_slot) {
  const Tensor score = scores_of(x, weight, bias, unit, activation);
  const auto [head, valid] =
      mis(rowptr, col, rowptr_t, col_t, source, ptr, priority ? priority : score, greedy, hops, seed);
  if (!valid) return refused(score);
  return pooled(x, score, multiplier, assign_heads(head, ptr, {}, false), {rowptr, col, value},
                {loops, injective, symmetric, want_sum, want_slot});
}

// Pairs of match by the scores known + shift of the entries, of which the larger one of each pair is the score of its
// nodes. Then come the scores of entries, and the other node of each.
decltype(std::tuple_cat(Pooled(), std::tuple<Tensor, Tensor>())) pair_pool(
    Tensor x, Tensor known, double shift, Tensor rowptr, Tensor col, OptionalTensor rowptr_t,
    OptionalTensor col_t, OptionalTensor source, OptionalTensor value, Tensor ptr, int64_t seed,
    int64_t loops, bool injective, bool symmetric, bool want_sum, bool want_slot) {
  const Tensor score = shifted(known, shift);
  const auto [mate, valid] = match(rowptr, col, rowptr_t, col_t, source, ptr, score, true, seed);
  if (!valid) return std::tuple_cat(refused(score), std::tuple(score, mate));
  const Tensor own = as_indices_of(col, mate);
  const Tensor factor = edge_factors(score, rowptr, col, own);
  return std::tuple_cat(pooled(x, factor, 1, assign_heads(mate, ptr, {}, true), {rowptr, col, value},
                               {loops, injective, symmetric, want_sum, want_slot}),
                        std::tuple(score, own));
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(hierpool_native, m) {
  m.def(
      "topk_pool(Tensor x, Tensor weight, Tensor? bias, bool unit, int activation, float multiplier, "
      "Tensor rowptr, Tensor col, Tensor? value, Tensor ptr, int over, int under, int most, "
      "int loops, bool injective, bool symmetric, bool want_sum, bool want_slot)"
      " -> (bool, Tensor, Tensor?, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,"
      " Tensor, Tensor, Tensor?, Tensor?, bool)");
  m.def(
      "mis_pool(Tensor x, Tensor weight, Tensor? bias, bool unit, int activation, float multiplier, "
      "Tensor rowptr, Tensor col, Tensor? rowptr_t, Tensor? col_t, Tensor? source, Tensor? value, "
      "Tensor ptr, Tensor? priority, bool greedy, int hops, int seed, "
      "int loops, bool injective, bool symmetric, bool want_sum, bool want_slot)"
      " -> (bool, Tensor, Tensor?, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,"
      " Tensor, Tensor, Tensor?, Tensor?, bool)");
  m.def(
      "pair_pool(Tensor x, Tensor known, float shift, Tensor rowptr, Tensor col, Tensor? rowptr_t, "
      "Tensor? col_t, Tensor? source, Tensor? value, Tensor ptr, int seed, "
      "int loops, bool injective, bool symmetric, bool want_sum, bool want_slot)"
      " -> (bool, Tensor, Tensor?, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,"
      " Tensor, Tensor, Tensor?, Tensor?, bool, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(hierpool_native, CPU, m) {
  m.impl("topk_pool", TORCH_BOX(&topk_pool));
  m.impl("mis_pool", TORCH_BOX(&mis_pool));
  m.impl("pair_pool", TORCH_BOX(&pair_pool));
}

}  // namespace hierpool::torch_binding
