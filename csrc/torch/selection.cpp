// hierpool_native::{match,mis,multilevel_clusters,topk,topk_in_batch,components,spectral_sign,propagate}. Arguments were
// checked by hierpool.
#include "hierpool/selection.h"

#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <numeric>
#include <tuple>
#include <utility>
#include <vector>

#include "torch/csr.h"
#include "torch/runtime.h"
#include "torch/selection.h"

namespace hierpool::torch_binding {
namespace {

int64_t* indices(const Tensor& t) {
  STD_TORCH_CHECK(t.scalar_type() == ScalarType::Long, "expected an int64 tensor");
  return static_cast<int64_t*>(pointer(t));
}

Blocks blocks(const Tensor& ptr) { return {ptr.numel() - 1, indices(ptr)}; }

bool is_double(const Tensor& score) {
  STD_TORCH_CHECK(score.scalar_type() == ScalarType::Double || score.scalar_type() == ScalarType::Float,
                  "score must be float32 or float64");
  return score.scalar_type() == ScalarType::Double;
}

// transpose: nothing, or the row pointers and columns of the transpose, and the entry of `a` of each of its entries.
Neighbours neighbours(const Tensor& rowptr, const Tensor& col, const OptionalTensor& rowptr_t,
                      const OptionalTensor& col_t, const OptionalTensor& source) {
  Neighbours out{csr(rowptr, col, {}, false), {}, nullptr};
  if (rowptr_t) {
    STD_TORCH_CHECK(col_t && source, "a transpose needs its columns and their sources");
    out.transpose = csr(*rowptr_t, *col_t, {}, false);
    out.source = pointer(*source);
    STD_TORCH_CHECK(out.transpose.rows == out.a.rows && col_t->numel() == col.numel() &&
                        source->numel() == col.numel() && out.transpose.int64_index == out.a.int64_index &&
                        source->scalar_type() == col.scalar_type(),
                    "the transpose must have the rows, entries and dtype of the matrix");
  }
  return out;
}

}  // namespace

std::tuple<Tensor, bool> match(Tensor rowptr, Tensor col, OptionalTensor rowptr_t, OptionalTensor col_t,
                               OptionalTensor source, Tensor ptr, OptionalTensor score, bool loops,
                               int64_t seed) {
  STD_TORCH_CHECK(!score || score->numel() == col.numel(), "score must have the size of col");
  MatchProblem problem{};
  problem.graph = neighbours(rowptr, col, rowptr_t, col_t, source);
  problem.blocks = blocks(ptr);
  problem.is_double = score && is_double(*score);
  problem.score = pointer(score);
  problem.loops = loops;
  problem.seed = static_cast<uint64_t>(seed);
  Tensor mate = empty({rowptr.numel() - 1}, ScalarType::Long);
  const bool valid = cpu::match(problem, indices(mate), runtime());
  return {std::move(mate), valid};
}

std::tuple<Tensor, bool> mis(Tensor rowptr, Tensor col, OptionalTensor rowptr_t, OptionalTensor col_t,
                             OptionalTensor source, Tensor ptr, OptionalTensor priority, bool greedy,
                             int64_t hops, int64_t seed) {
  const int64_t nodes = rowptr.numel() - 1;
  const Blocks graphs = blocks(ptr);
  STD_TORCH_CHECK((!priority || priority->numel() == nodes) && graphs.ptr[graphs.graphs] == nodes,
                  "ptr and priority must fit to the matrix");
  Tensor head = empty({nodes}, ScalarType::Long);
  const Neighbours graph = neighbours(rowptr, col, rowptr_t, col_t, source);
  const auto run = [&]<typename T>(const T* priorities) {
    std::vector<T> shares;
    if (priorities && greedy) {
      shares.assign(priorities, priorities + nodes);
      cpu::divide_by_walks(graph.transpose.rowptr ? graph.transpose : graph.a, shares.data());
      priorities = shares.data();
    }
    return cpu::maximal_independent_set(graph, graphs, priorities, hops, static_cast<uint64_t>(seed),
                                        indices(head));
  };
  const bool valid = priority && is_double(*priority) ? run(static_cast<const double*>(pointer(priority)))
                                                      : run(static_cast<const float*>(pointer(priority)));
  return {std::move(head), valid};
}

std::tuple<Tensor, Tensor, bool> topk(Tensor score, Tensor ptr, OptionalTensor order, int64_t over,
                                      int64_t under, int64_t most) {
  const Blocks graphs = blocks(ptr);
  const int64_t n = score.numel();
  STD_TORCH_CHECK(n == graphs.ptr[graphs.graphs] && (!order || order->numel() == n),
                  "ptr, order and score do not fit");
  const cpu::KeptRows rows{over, under, most};
  Tensor first = empty({graphs.graphs + 1}, ScalarType::Long);
  int64_t* const firsts = indices(first);
  std::vector<int64_t> count(static_cast<size_t>(graphs.graphs));
  firsts[0] = 0;
  for (int64_t b = 0; b < graphs.graphs; ++b) {
    count[static_cast<size_t>(b)] = rows(graphs.ptr[b + 1] - graphs.ptr[b]);
    firsts[b + 1] = firsts[b] + count[static_cast<size_t>(b)];
  }
  Tensor kept = empty({firsts[graphs.graphs]}, ScalarType::Long);
  const int64_t* const node = order ? indices(*order) : nullptr;
  const auto run = [&]<typename T>(const T* scores) {
    if (std::any_of(scores, scores + n, [](T s) { return s != s; })) return false;
    std::vector<T> ordered(node ? static_cast<size_t>(n) : 0);
    for (size_t i = 0; i < ordered.size(); ++i) ordered[i] = scores[node[i]];
    cpu::topk(graphs, node ? ordered.data() : scores, count.data(), indices(kept), runtime());
    for (int64_t i = 0; node && i < kept.numel(); ++i) indices(kept)[i] = node[indices(kept)[i]];
    return true;
  };
  const bool valid = is_double(score) ? run(static_cast<const double*>(pointer(score)))
                                      : run(static_cast<const float*>(pointer(score)));
  return {std::move(kept), std::move(first), valid};
}

namespace {

Tensor components(Tensor rowptr, Tensor col, OptionalTensor usable) {
  STD_TORCH_CHECK(!usable || (usable->scalar_type() == ScalarType::Bool && usable->numel() == col.numel()),
                  "usable must be bool and have the size of col");
  Tensor first = empty({rowptr.numel() - 1}, ScalarType::Long);
  cpu::components(csr(rowptr, col, {}, false), static_cast<const uint8_t*>(pointer(usable)), indices(first));
  return first;
}

Tensor spectral_sign(Tensor rowptr, Tensor col, OptionalTensor value, Tensor ptr, int64_t seed) {
  Tensor kept = empty({rowptr.numel() - 1}, ScalarType::Bool);
  cpu::spectral_sign(csr(rowptr, col, value, true), blocks(ptr), static_cast<uint64_t>(seed),
                     static_cast<uint8_t*>(pointer(kept)), runtime());
  return kept;
}

Tensor propagate(Tensor rowptr, Tensor col, Tensor label, int64_t hops) {
  STD_TORCH_CHECK(label.numel() == rowptr.numel() - 1, "label must have one element for each row");
  Tensor out = empty({label.numel()}, ScalarType::Long);
  std::copy_n(indices(label), label.numel(), indices(out));
  cpu::propagate(csr(rowptr, col, {}, false), hops, indices(out), runtime());
  return out;
}

// The rows that are kept, and whether no score is NaN.
std::tuple<Tensor, bool> topk_in_batch(Tensor score, Tensor batch, int64_t over, int64_t under,
                                       int64_t most) {
  STD_TORCH_CHECK(score.numel() == batch.numel(), "score must have one element for each of batch");
  const int64_t* const graph = indices(batch);
  STD_TORCH_CHECK(std::all_of(graph, graph + batch.numel(), [](int64_t b) { return b >= 0; }),
                  "batch must not be negative");
  std::vector<int64_t> kept;
  const auto run = [&](const auto* scores) {
    return cpu::topk_in_batch(batch.numel(), graph, scores, {over, under, most}, kept, runtime());
  };
  const bool valid = is_double(score) ? run(static_cast<const double*>(pointer(score)))
                                      : run(static_cast<const float*>(pointer(score)));
  Tensor out = empty({static_cast<int64_t>(kept.size())}, ScalarType::Long);
  std::copy(kept.begin(), kept.end(), indices(out));
  return {std::move(out), valid};
}

// Arguments are those of ClusteringProblem.
Tensor multilevel_clusters(Tensor rowptr, Tensor col, OptionalTensor value, Tensor ptr, bool cut,
                           double resolution, Tensor most, bool exact, Tensor largest, OptionalTensor start,
                           int64_t cycles, int64_t seed) {
  const int64_t nodes = rowptr.numel() - 1;
  ClusteringProblem problem{};
  problem.graph = csr(rowptr, col, value, true);
  problem.blocks = blocks(ptr);
  STD_TORCH_CHECK(most.numel() == problem.blocks.graphs && largest.numel() == problem.blocks.graphs &&
                      (!start || start->numel() == nodes),
                  "most, largest and start must fit to the graphs");
  problem.cut = cut, problem.resolution = resolution;
  problem.most = indices(most), problem.exact = exact, problem.largest = indices(largest);
  problem.start = start ? indices(*start) : nullptr;
  problem.cycles = cycles, problem.seed = static_cast<uint64_t>(seed);
  Tensor cluster = empty({nodes}, ScalarType::Long);
  cpu::multilevel_clusters(problem, indices(cluster), runtime());
  return cluster;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(hierpool_native, m) {
  m.def(
      "match(Tensor rowptr, Tensor col, Tensor? rowptr_t, Tensor? col_t, Tensor? source, Tensor ptr, Tensor? "
      "score,"
      " bool loops, int seed) -> (Tensor, bool)");
  m.def(
      "mis(Tensor rowptr, Tensor col, Tensor? rowptr_t, Tensor? col_t, Tensor? source, Tensor ptr,"
      " Tensor? priority, bool greedy, int hops, int seed) -> (Tensor, bool)");
  m.def(
      "multilevel_clusters(Tensor rowptr, Tensor col, Tensor? value, Tensor ptr, bool cut, float resolution,"
      " Tensor most, bool exact, Tensor largest, Tensor? start, int cycles, int seed) -> Tensor");
  m.def(
      "topk(Tensor score, Tensor ptr, Tensor? order, int over, int under, int most) -> (Tensor, Tensor, "
      "bool)");
  m.def("components(Tensor rowptr, Tensor col, Tensor? usable) -> Tensor");
  m.def("spectral_sign(Tensor rowptr, Tensor col, Tensor? value, Tensor ptr, int seed) -> Tensor");
  m.def("propagate(Tensor rowptr, Tensor col, Tensor label, int hops) -> Tensor");
  m.def("topk_in_batch(Tensor score, Tensor batch, int over, int under, int most) -> (Tensor, bool)");
}

STABLE_TORCH_LIBRARY_IMPL(hierpool_native, CPU, m) {
  m.impl("match", TORCH_BOX(&match));
  m.impl("mis", TORCH_BOX(&mis));
  m.impl("multilevel_clusters", TORCH_BOX(&multilevel_clusters));
  m.impl("topk", TORCH_BOX(&topk));
  m.impl("components", TORCH_BOX(&components));
  m.impl("spectral_sign", TORCH_BOX(&spectral_sign));
  m.impl("propagate", TORCH_BOX(&propagate));
  m.impl("topk_in_batch", TORCH_BOX(&topk_in_batch));
}

}  // namespace hierpool::torch_binding
