// hierpool_native::asymmetric_norm_{forward,backward}. Arguments were checked by hierpool.ops; the shapes returned are
// those of its fake kernel.
#include "hierpool/asymmetric_norm.h"

#include <torch/csrc/stable/library.h>

#include "torch/soft_pool.h"

namespace hierpool::torch_binding {
namespace {

// Where `ptr` is absent, the batch is padded.
AsymmetricNorm input_of(const Tensor& s, const OptionalTensor& ptr, const OptionalTensor& mask,
                        const OptionalTensor& num_nodes, const OptionalTensor& num_clusters) {
  check_rows(s, "s");
  AsymmetricNorm input{};
  PoolBatch& b = input.batch;
  b.R = 1, b.K = s.size(s.dim() - 1);
  b.s_type = b.x_type = dtype(s);
  b.is_double = b.s_type == DType::f64;
  input.s = s.data_ptr();
  input.s_stride_b = s.stride(0), input.s_stride_n = row_stride(s, b.K);
  ptr ? set_ragged(b, s, *ptr) : set_padded(b, s, mask, num_nodes);
  set_clusters(b, num_clusters);
  return input;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> asymmetric_norm_forward(Tensor s, OptionalTensor ptr,
                                                                   OptionalTensor mask,
                                                                   OptionalTensor num_nodes,
                                                                   OptionalTensor num_clusters) {
  const AsymmetricNorm input = input_of(s, ptr, mask, num_nodes, num_clusters);
  const PoolBatch& b = input.batch;
  const ScalarType acc = accumulation_type(b.is_double);
  Tensor norm = empty({b.B}, acc), quantile = empty({b.B, b.K}, s.scalar_type());
  Tensor row = empty({b.B, b.K}, ScalarType::Long), slope = empty({b.B, b.K}, acc);
  cpu::asymmetric_norm_fwd(
      {input, norm.data_ptr(), quantile.data_ptr(), static_cast<int64_t*>(row.data_ptr()), slope.data_ptr()},
      runtime());
  return {norm, quantile, row, slope};
}

Tensor asymmetric_norm_backward(Tensor dnorm, Tensor s, Tensor quantile, Tensor row, Tensor slope,
                                OptionalTensor ptr, OptionalTensor mask, OptionalTensor num_nodes,
                                OptionalTensor num_clusters) {
  const AsymmetricNorm input = input_of(s, ptr, mask, num_nodes, num_clusters);
  auto [ds, data] = gradient_of(s, true);
  if (data == nullptr) return ds;
  cpu::asymmetric_norm_bwd({input, pointer(dnorm), pointer(quantile),
                            static_cast<const int64_t*>(pointer(row)), pointer(slope), data},
                           runtime());
  return ds;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(hierpool_native, m) {
  m.def(
      "asymmetric_norm_forward(Tensor s, Tensor? ptr, Tensor? mask, Tensor? num_nodes,"
      " Tensor? num_clusters) -> (Tensor norm,"
      " Tensor quantile, Tensor row, Tensor slope)");
  m.def(
      "asymmetric_norm_backward(Tensor dnorm, Tensor s, Tensor quantile, Tensor row, Tensor slope,"
      " Tensor? ptr, Tensor? mask, Tensor? num_nodes, Tensor? num_clusters) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(hierpool_native, CPU, m) {
  m.impl("asymmetric_norm_forward", TORCH_BOX(&asymmetric_norm_forward));
  m.impl("asymmetric_norm_backward", TORCH_BOX(&asymmetric_norm_backward));
}

}  // namespace hierpool::torch_binding
