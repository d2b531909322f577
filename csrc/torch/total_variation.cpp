// hierpool_native::total_variation_{dense,dense_backward,csr}. Arguments were checked by hierpool.ops.
#include "hierpool/total_variation.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "torch/edge_distances.h"
#include "torch/soft_pool.h"

namespace hierpool::torch_binding {
namespace {

struct DenseArguments {
  DenseVariation variation{};
  DenseAdjacency adjacency{};

  DenseArguments(const Tensor& s, const Tensor& adj, const OptionalTensor& mask,
                 const OptionalTensor& num_nodes) {
    check_rows(s, "s");
    check_rows(adj, "adj");
    PoolBatch& b = variation.batch;
    set_padded(b, s, mask, num_nodes);
    b.K = s.size(2), b.R = 1;
    b.s_type = b.x_type = dtype(s);
    b.is_double = b.s_type == DType::f64 || dtype(adj) == DType::f64;
    variation.s = s.data_ptr();
    variation.s_stride_b = s.stride(0), variation.s_stride_n = row_stride(s, b.K);
    adjacency = {dtype(adj), adj.data_ptr(), adj.stride(0), 0, row_stride(adj, b.N)};
  }
};

std::tuple<Tensor, Tensor> of_graphs(int64_t graphs, bool is_double) {
  return {empty({graphs}, accumulation_type(is_double)), empty({graphs}, accumulation_type(is_double))};
}

std::tuple<Tensor, Tensor> total_variation_dense(Tensor s, Tensor adj, OptionalTensor mask,
                                                 OptionalTensor num_nodes) {
  const DenseArguments args(s, adj, mask, num_nodes);
  auto out = of_graphs(args.variation.batch.B, args.variation.batch.is_double);
  cpu::total_variation_fwd(args.variation, args.adjacency, std::get<0>(out).data_ptr(),
                           std::get<1>(out).data_ptr(), runtime());
  return out;
}

// Gradients to S and A.
std::tuple<Tensor, Tensor> total_variation_dense_backward(Tensor dvariation, Tensor s, Tensor adj,
                                                          OptionalTensor mask, OptionalTensor num_nodes,
                                                          bool need_s, bool need_adj) {
  const DenseArguments args(s, adj, mask, num_nodes);
  auto [ds, ds_data] = gradient_of(s, need_s);
  auto [dadj, dadj_data] = gradient_of(adj, need_adj);
  cpu::total_variation_bwd(args.variation, args.adjacency, pointer(dvariation), ds_data, dadj_data,
                           runtime());
  return {std::move(ds), std::move(dadj)};
}

std::tuple<Tensor, Tensor> total_variation_csr(Tensor rowptr, Tensor col, OptionalTensor value, Tensor ptr,
                                               Tensor x) {
  const EdgeArguments args(rowptr, col, value, ptr, x);
  auto out = of_graphs(args.rows.graphs, args.rows.is_double);
  cpu::total_variation_fwd(args.rows, std::get<0>(out).data_ptr(), std::get<1>(out).data_ptr(), runtime());
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(hierpool_native, m) {
  m.def("total_variation_dense(Tensor s, Tensor adj, Tensor? mask, Tensor? num_nodes) -> (Tensor, Tensor)");
  m.def(
      "total_variation_dense_backward(Tensor dvariation, Tensor s, Tensor adj, Tensor? mask,"
      " Tensor? num_nodes, bool need_s, bool need_adj) -> (Tensor, Tensor)");
  m.def(
      "total_variation_csr(Tensor rowptr, Tensor col, Tensor? value, Tensor ptr, Tensor x) -> (Tensor,"
      " Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(hierpool_native, CPU, m) {
  m.impl("total_variation_dense", TORCH_BOX(&total_variation_dense));
  m.impl("total_variation_dense_backward", TORCH_BOX(&total_variation_dense_backward));
  m.impl("total_variation_csr", TORCH_BOX(&total_variation_csr));
}

}  // namespace hierpool::torch_binding
