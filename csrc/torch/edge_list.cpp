// hierpool_native::{filter_edges,merge_edges}. Arguments were checked by hierpool.
#include "hierpool/edge_list.h"

#include <torch/csrc/stable/library.h>

#include <tuple>
#include <utility>

#include "torch/runtime.h"

namespace hierpool::torch_binding {
namespace {

struct Outputs {
  bool want_kept;
  Tensor edges, kept;

  static EdgeFilter::Outputs allocate(void* context, int64_t count) {
    auto& self = *static_cast<Outputs*>(context);
    self.edges = empty({2, count}, ScalarType::Long);
    self.kept = empty({self.want_kept ? count : 0}, ScalarType::Long);
    auto* const source = static_cast<int64_t*>(self.edges.data_ptr());
    return {source, source + count, self.want_kept ? static_cast<int64_t*>(self.kept.data_ptr()) : nullptr};
  }
};

// edge_index int64 [2, E], number int64 [N]. Returns the edges in new numbers, which of the edges these are (no element
// unless wanted), and the first edge with a node that does not exist, or -1.
std::tuple<Tensor, Tensor, int64_t> filter_edges(Tensor edge_index, Tensor number, bool want_kept) {
  STD_TORCH_CHECK(edge_index.scalar_type() == ScalarType::Long && number.scalar_type() == ScalarType::Long,
                  "expected int64 tensors");
  Outputs out{want_kept, empty({2, 0}, ScalarType::Long), empty({0}, ScalarType::Long)};
  const int64_t edges = edge_index.size(1);
  const auto* const source = static_cast<const int64_t*>(pointer(edge_index));
  const EdgeFilter filter{edges,
                          source,
                          source + edges,
                          number.numel(),
                          static_cast<const int64_t*>(pointer(number)),
                          Outputs::allocate,
                          &out};
  const int64_t wrong = cpu::filter_edges(filter, runtime());
  return {std::move(out.edges), std::move(out.kept), wrong};
}

struct Merged {
  Tensor edges;

  static EdgeMerge::Outputs allocate(void* context, int64_t count) {
    auto& self = *static_cast<Merged*>(context);
    self.edges = empty({2, count}, ScalarType::Long);
    auto* const source = static_cast<int64_t*>(self.edges.data_ptr());
    return {source, source + count};
  }
};

// edge_index int64 [2, E], cluster int64 [N] of `clusters`. Returns the different edges, which of them each edge became
// (no element unless wanted), and the first edge with a node that does not exist, or -1.
std::tuple<Tensor, Tensor, int64_t> merge_edges(Tensor edge_index, Tensor cluster, int64_t clusters,
                                                bool drop_loops, bool want_slot) {
  STD_TORCH_CHECK(edge_index.scalar_type() == ScalarType::Long && cluster.scalar_type() == ScalarType::Long,
                  "expected int64 tensors");
  Merged out{empty({2, 0}, ScalarType::Long)};
  const int64_t edges = edge_index.size(1);
  Tensor slot = empty({want_slot ? edges : 0}, ScalarType::Long);
  const auto* const source = static_cast<const int64_t*>(pointer(edge_index));
  const EdgeMerge merge{edges,
                        source,
                        source + edges,
                        cluster.numel(),
                        static_cast<const int64_t*>(pointer(cluster)),
                        clusters,
                        drop_loops,
                        Merged::allocate,
                        &out};
  const int64_t wrong = cpu::merge_edges(merge, want_slot ? static_cast<int64_t*>(slot.data_ptr()) : nullptr);
  return {std::move(out.edges), std::move(slot), wrong};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(hierpool_native, m) {
  m.def("filter_edges(Tensor edge_index, Tensor number, bool want_kept) -> (Tensor, Tensor, int)");
  m.def(
      "merge_edges(Tensor edge_index, Tensor cluster, int clusters, bool drop_loops, bool want_slot)"
      " -> (Tensor, Tensor, int)");
}

STABLE_TORCH_LIBRARY_IMPL(hierpool_native, CPU, m) {
  m.impl("filter_edges", TORCH_BOX(&filter_edges));
  m.impl("merge_edges", TORCH_BOX(&merge_edges));
}

}  // namespace hierpool::torch_binding
