// hierpool_native::assign_clusters, assign_heads and assign_kept. Types and sizes were checked by hierpool.graph; values are checked here.
#include "hierpool/graph_assign.h"

#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <limits>
#include <tuple>

#include "torch/graph_assign.h"
#include "torch/runtime.h"

namespace hierpool::torch_binding {
namespace {

int64_t* numbers(const Tensor& t) {
  STD_TORCH_CHECK(t.scalar_type() == ScalarType::Long, "expected int64");
  return static_cast<int64_t*>(pointer(t));
}

BatchRows rows_of(const Tensor& ptr, const OptionalTensor& order, int64_t nodes) {
  return {nodes, ptr.numel() - 1, numbers(ptr), order && order->numel() > 0 ? numbers(*order) : nullptr};
}

Assigned refused() {
  const auto none = [] { return empty({0}, ScalarType::Long); };
  return {false, none(), none(), none(), none(), none(), none(), none()};
}

template <typename I>
Assigned assigned(const BatchRows& rows, const int64_t* cluster, const Tensor& cluster_ptr, int64_t count,
                  ScalarType type) {
  const int64_t clusters = numbers(cluster_ptr)[rows.graphs];
  const auto make = [type](int64_t size) { return empty({size}, type); };
  const auto data = [](const Tensor& t) { return static_cast<I*>(t.data_ptr()); };
  const bool all = count == rows.nodes;
  Tensor of_row = make(rows.nodes), rowptr = make(rows.nodes + 1), entries = all ? of_row : make(count);
  Tensor first = make(clusters + 1), row = make(count), entry = all ? row : make(count);
  cpu::assign_rows<I>(rows, cluster, numbers(cluster_ptr),
                      {data(of_row), data(rowptr), all ? nullptr : data(entries), data(first), data(row),
                       all ? nullptr : data(entry)});
  return {true, cluster_ptr, rowptr, entries, of_row, first, row, entry};
}

Assigned assigned(const BatchRows& rows, const int64_t* cluster, const Tensor& cluster_ptr, int64_t count) {
  const int64_t most = std::max(rows.nodes, numbers(cluster_ptr)[rows.graphs]);
  if (most > std::numeric_limits<int32_t>::max()) {
    return assigned<int64_t>(rows, cluster, cluster_ptr, count, ScalarType::Long);
  }
  return assigned<int32_t>(rows, cluster, cluster_ptr, count, ScalarType::Int);
}

// most: clusters that are taken without their number being stated.
Assigned assign_clusters(Tensor cluster, Tensor ptr, OptionalTensor order, OptionalTensor counts,
                         int64_t most) {
  const BatchRows rows = rows_of(ptr, order, cluster.numel());
  Tensor cluster_ptr = empty({rows.graphs + 1}, ScalarType::Long);
  const int64_t* stated = counts && counts->numel() > 0 ? numbers(*counts) : nullptr;
  const int64_t count = cpu::assign_count(rows, numbers(cluster), stated, numbers(cluster_ptr));
  if (count < 0 || (!stated && numbers(cluster_ptr)[rows.graphs] > most)) return refused();
  return assigned(rows, numbers(cluster), cluster_ptr, count);
}

}  // namespace

Assigned assign_heads(Tensor head, Tensor ptr, OptionalTensor order, bool pairs) {
  const BatchRows rows = rows_of(ptr, order, head.numel());
  const Tensor cluster = empty({rows.nodes}, ScalarType::Long);
  Tensor cluster_ptr = empty({rows.graphs + 1}, ScalarType::Long);
  cpu::assign_heads(rows, numbers(head), pairs, numbers(cluster), numbers(cluster_ptr));
  return assigned(rows, numbers(cluster), cluster_ptr, rows.nodes);
}

Assigned assigned_kept(const Tensor& index, const Tensor& ptr, const OptionalTensor& order, int64_t num_nodes,
                       int64_t* position) {
  const BatchRows rows = rows_of(ptr, order, num_nodes);
  Tensor cluster_ptr = empty({rows.graphs + 1}, ScalarType::Long);
  const Tensor cluster = empty({num_nodes}, ScalarType::Long);
  const int64_t count =
      cpu::assign_kept(rows, index.numel(), numbers(index), numbers(cluster), position, numbers(cluster_ptr));
  return count < 0 ? refused() : assigned(rows, numbers(cluster), cluster_ptr, count);
}

namespace {

// The last tensor is where each cluster is in index.
std::tuple<bool, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> assign_kept(
    Tensor index, Tensor ptr, OptionalTensor order, int64_t num_nodes) {
  const Tensor position = empty({index.numel()}, ScalarType::Long);
  const Assigned out = assigned_kept(index, ptr, order, num_nodes, numbers(position));
  return std::tuple_cat(out, std::tuple<Tensor>(position));
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(hierpool_native, m) {
  m.def(
      "assign_clusters(Tensor cluster, Tensor ptr, Tensor? order, Tensor? counts, int most) -> (bool, "
      "Tensor, Tensor,"
      " Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "assign_heads(Tensor head, Tensor ptr, Tensor? order, bool pairs) -> (bool, Tensor, Tensor, Tensor, "
      "Tensor,"
      " Tensor, Tensor, Tensor)");
  m.def(
      "assign_kept(Tensor index, Tensor ptr, Tensor? order, int num_nodes) -> (bool, Tensor, Tensor, Tensor, "
      "Tensor,"
      " Tensor, Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(hierpool_native, CPU, m) {
  m.impl("assign_clusters", TORCH_BOX(&assign_clusters));
  m.impl("assign_heads", TORCH_BOX(&assign_heads));
  m.impl("assign_kept", TORCH_BOX(&assign_kept));
}

}  // namespace hierpool::torch_binding
