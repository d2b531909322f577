// hierpool_native::total_variation_{dense,dense_backward,csr}, edge_distances and signed_sums. Arguments were checked by
// hierpool.ops.
#include "hierpool/total_variation.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "torch/csr.h"
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
    b.B = s.size(0), b.N = s.size(1), b.K = s.size(2), b.R = 1;
    STD_TORCH_CHECK(b.N < std::numeric_limits<int32_t>::max(), "sizes must be below 2^31");
    b.s_type = b.x_type = dtype(s);
    b.wide = b.s_type == DType::f64 || dtype(adj) == DType::f64;
    b.mask = static_cast<const uint8_t*>(pointer(mask));
    b.num_nodes = static_cast<const int64_t*>(pointer(num_nodes));
    variation.s = s.data_ptr();
    variation.s_stride_b = s.stride(0), variation.s_stride_n = row_stride(s, b.K);
    adjacency = {dtype(adj), adj.data_ptr(), adj.stride(0), 0, row_stride(adj, b.N)};
  }
};

std::tuple<Tensor, Tensor> of_graphs(int64_t graphs, bool wide) {
  return {empty({graphs}, accumulation_type(wide)), empty({graphs}, accumulation_type(wide))};
}

std::tuple<Tensor, Tensor> total_variation_dense(Tensor s, Tensor adj, OptionalTensor mask,
                                                 OptionalTensor num_nodes) {
  const DenseArguments args(s, adj, mask, num_nodes);
  auto out = of_graphs(args.variation.batch.B, args.variation.batch.wide);
  cpu::total_variation(args.variation, args.adjacency, std::get<0>(out).data_ptr(),
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
  cpu::total_variation_backward(args.variation, args.adjacency, pointer(dvariation), ds_data, dadj_data,
                                runtime());
  return {std::move(ds), std::move(dadj)};
}

// x and value have the type in which is summed.
struct SparseArguments {
  SparseVariation variation;
  int64_t ptr_of_one[2];

  SparseArguments(const Tensor& rowptr, const Tensor& col, const OptionalTensor& value,
                  const OptionalTensor& ptr, const Tensor& rows) {
    const bool wide = rows.scalar_type() == ScalarType::Double;
    STD_TORCH_CHECK(wide || rows.scalar_type() == ScalarType::Float, "x must have the accumulation type");
    check_rows(rows, "x");
    const int64_t n = rows.size(1);
    variation = {csr(rowptr, col, value, wide), wide, rows.data_ptr(), n, row_stride(rows, n), 1, ptr_of_one};
    ptr_of_one[0] = 0, ptr_of_one[1] = variation.a.rows;
    if (ptr) {
      variation.graphs = ptr->numel() - 1;
      variation.ptr = static_cast<const int64_t*>(pointer(*ptr));
    }
    STD_TORCH_CHECK(variation.a.rows == rows.size(0) && variation.ptr[variation.graphs] == variation.a.rows,
                    "x, ptr and rowptr disagree");
  }
  SparseArguments(const SparseArguments&) = delete;
  SparseArguments& operator=(const SparseArguments&) = delete;
};

std::tuple<Tensor, Tensor> total_variation_csr(Tensor rowptr, Tensor col, OptionalTensor value, Tensor ptr,
                                               Tensor x) {
  const SparseArguments args(rowptr, col, value, ptr, x);
  auto out = of_graphs(args.variation.graphs, args.variation.wide);
  cpu::total_variation(args.variation, std::get<0>(out).data_ptr(), std::get<1>(out).data_ptr(), runtime());
  return out;
}

// scale [graphs] has the type of x; without ptr all rows are one graph.
Tensor edge_distances(Tensor rowptr, Tensor col, Tensor x, OptionalTensor ptr, OptionalTensor scale) {
  const SparseArguments args(rowptr, col, {}, ptr, x);
  Tensor out = empty({col.numel()}, x.scalar_type());
  cpu::edge_distances(args.variation, scale ? pointer(*scale) : nullptr, out.data_ptr(), runtime());
  return out;
}

// The second matrix is absent where only the first one counts.
Tensor signed_sums(Tensor rowptr, Tensor col, OptionalTensor value, OptionalTensor also_rowptr,
                   OptionalTensor also_col, OptionalTensor also_value, Tensor x, OptionalTensor ptr,
                   OptionalTensor scale) {
  const SparseArguments args(rowptr, col, value, ptr, x);
  const Csr also = also_rowptr ? csr(*also_rowptr, *also_col, also_value, args.variation.wide) : Csr{};
  STD_TORCH_CHECK(!also_rowptr || also.rows == args.variation.a.rows, "the matrices differ in size");
  Tensor out = empty({x.size(0), x.size(1)}, x.scalar_type());
  cpu::signed_sums(args.variation, also, scale ? pointer(*scale) : nullptr, out.data_ptr(), runtime());
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(hierpool_native, m) {
  m.def("total_variation_dense(Tensor s, Tensor adj, Tensor? mask, Tensor? num_nodes) -> (Tensor, Tensor)");
  m.def(
      "total_variation_dense_backward(Tensor dvariation, Tensor s, Tensor adj, Tensor? mask, Tensor? "
      "num_nodes,"
      " bool need_s, bool need_adj) -> (Tensor, Tensor)");
  m.def(
      "total_variation_csr(Tensor rowptr, Tensor col, Tensor? value, Tensor ptr, Tensor x) -> (Tensor, "
      "Tensor)");
  m.def("edge_distances(Tensor rowptr, Tensor col, Tensor x, Tensor? ptr, Tensor? scale) -> Tensor");
  m.def(
      "signed_sums(Tensor rowptr, Tensor col, Tensor? value, Tensor? also_rowptr, Tensor? also_col,"
      " Tensor? also_value, Tensor x, Tensor? ptr, Tensor? scale) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(hierpool_native, CPU, m) {
  m.impl("total_variation_dense", TORCH_BOX(&total_variation_dense));
  m.impl("total_variation_dense_backward", TORCH_BOX(&total_variation_dense_backward));
  m.impl("total_variation_csr", TORCH_BOX(&total_variation_csr));
  m.impl("edge_distances", TORCH_BOX(&edge_distances));
  m.impl("signed_sums", TORCH_BOX(&signed_sums));
}

}  // namespace hierpool::torch_binding
