// hierpool_native::link_bce_{forward,backward}. Arguments were checked by hierpool.ops; the shapes returned are those of
// its fake kernel.
#include "hierpool/link_bce.h"

#include <torch/csrc/stable/library.h>

#include "torch/csr.h"
#include "torch/soft_pool.h"

namespace hierpool::torch_binding {
namespace {

// Where `rowptr` is absent, the batch is padded and `adj` [B, N, N]; else `adj` holds the entries in the accumulation type.
struct Arguments {
  LinkBce link{};
  DenseAdjacency dense{};
  CsrAdjacency sparse{};

  Arguments(const Tensor& s, const OptionalTensor& adj, const OptionalTensor& rowptr,
            const OptionalTensor& col, const OptionalTensor& ptr, const OptionalTensor& mask,
            const OptionalTensor& num_nodes, double eps, int64_t divisor, bool symmetric) {
    check_rows(s, "s");
    STD_TORCH_CHECK(adj || rowptr, "adj is missing");
    PoolBatch& b = link.batch;
    b.R = 1, b.K = s.size(s.dim() - 1);
    b.s_type = b.x_type = dtype(s);
    b.is_double = b.s_type == DType::f64 || (adj && dtype(*adj) == DType::f64);
    link.s = s.data_ptr();
    link.s_stride_b = s.stride(0), link.s_stride_n = row_stride(s, b.K);
    link.symmetric = symmetric;
    link.eps = eps;
    link.divisor = static_cast<LinkDivisor>(divisor);
    if (rowptr) {
      set_ragged(b, s, *ptr);
      STD_TORCH_CHECK(rowptr->numel() == s.size(0) + 1, "s and rowptr disagree");
      sparse.a = csr(*rowptr, *col, adj, b.is_double);
    } else {
      set_padded(b, s, mask, num_nodes);
      check_rows(*adj, "adj");
      dense = {dtype(*adj), adj->data_ptr(), adj->stride(0), 0, row_stride(*adj, b.N)};
    }
  }
};

Tensor link_bce_forward(Tensor s, OptionalTensor adj, OptionalTensor rowptr, OptionalTensor col,
                        OptionalTensor ptr, OptionalTensor mask, OptionalTensor num_nodes, double eps,
                        int64_t divisor, bool symmetric) {
  const Arguments args(s, adj, rowptr, col, ptr, mask, num_nodes, eps, divisor, symmetric);
  Tensor loss = empty({}, accumulation_type(args.link.batch.is_double));
  if (rowptr) {
    cpu::link_bce_fwd(args.link, args.sparse, loss.data_ptr(), runtime());
  } else {
    cpu::link_bce_fwd(args.link, args.dense, loss.data_ptr(), runtime());
  }
  return loss;
}

// Gradients to S and A; to the entries of a sparse A in the accumulation type.
std::tuple<Tensor, Tensor> link_bce_backward(Tensor dloss, Tensor s, OptionalTensor adj,
                                             OptionalTensor rowptr, OptionalTensor col, OptionalTensor ptr,
                                             OptionalTensor mask, OptionalTensor num_nodes, double eps,
                                             int64_t divisor, bool symmetric, bool need_s, bool need_adj) {
  const Arguments args(s, adj, rowptr, col, ptr, mask, num_nodes, eps, divisor, symmetric);
  auto [ds, ds_data] = gradient_of(s, need_s);
  auto [dadj, dadj_data] = gradient_of(adj ? *adj : s, need_adj);
  const LinkBceBackward backward{args.link, pointer(dloss), ds_data, dadj_data};
  if (rowptr) {
    cpu::link_bce_bwd(backward, args.sparse, runtime());
  } else {
    cpu::link_bce_bwd(backward, args.dense, runtime());
  }
  return {std::move(ds), std::move(dadj)};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(hierpool_native, m) {
  m.def(
      "link_bce_forward(Tensor s, Tensor? adj, Tensor? rowptr, Tensor? col, Tensor? ptr, Tensor? mask,"
      " Tensor? num_nodes, float eps, int divisor, bool symmetric) -> Tensor");
  m.def(
      "link_bce_backward(Tensor dloss, Tensor s, Tensor? adj, Tensor? rowptr, Tensor? col, Tensor? ptr,"
      " Tensor? mask, Tensor? num_nodes, float eps, int divisor, bool symmetric, bool need_s, bool need_adj)"
      " -> (Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(hierpool_native, CPU, m) {
  m.impl("link_bce_forward", TORCH_BOX(&link_bce_forward));
  m.impl("link_bce_backward", TORCH_BOX(&link_bce_backward));
}

}  // namespace hierpool::torch_binding
