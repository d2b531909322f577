// hierpool_native::soft_pool_csr_{forward,backward}. Arguments were checked by hierpool.ops; the shapes returned are
// those of its fake kernel.
#include <torch/csrc/stable/library.h>

#include "torch/csr.h"
#include "torch/soft_pool.h"

namespace hierpool::torch_binding {

PoolBatch csr_batch(const Tensor& s, const Tensor& x, const OptionalTensor& value, const Tensor& ptr,
                    double temperature, bool given, bool mean) {
  PoolBatch b = pool_batch(s, x, temperature, given, mean);
  set_ragged(b, s, ptr);
  b.is_double = b.s_type == DType::f64 || b.x_type == DType::f64 || (value && dtype(*value) == DType::f64);
  STD_TORCH_CHECK(s.size(0) == x.size(0), "the rows of s and x disagree");
  return b;
}

namespace {

// Returns s, x, adj, gram, vectors, scalars, total_entropy, link_norm, norm, m and an empty is_symmetric.
Outputs soft_pool_csr_forward(Tensor logits, Tensor x, OptionalTensor value, Tensor rowptr, Tensor col,
                              Tensor ptr, OptionalTensor num_clusters, double temperature, bool given,
                              bool symmetric, bool want_gram, bool want_link, bool want_entropy, bool mean,
                              bool save) {
  logits = in_rows(logits), x = in_rows(x), num_clusters = in_order(num_clusters);
  SoftPoolForward f{};
  f.batch = csr_batch(logits, x, value, ptr, temperature, given, mean);
  set_clusters(f.batch, num_clusters);
  Forward out = set_forward(f, logits, x, false, symmetric, want_gram, want_link, want_entropy);
  Tensor m = empty({save ? logits.size(0) : 0, f.batch.K}, accumulation_type(f.batch.is_double));
  f.m = save ? m.data_ptr() : nullptr;
  cpu::soft_pool_fwd(f, CsrAdjacency{csr(rowptr, col, value, f.batch.is_double), {}}, runtime());
  return outputs(std::move(out), std::move(m), empty({0}, ScalarType::Bool));
}

// The transpose is absent where A is symmetric. Returns gradients to logits, x and the entries of A in the
// accumulation type.
std::tuple<Tensor, Tensor, Tensor> soft_pool_csr_backward(
    OptionalTensor ds, OptionalTensor dx, OptionalTensor dadj, OptionalTensor dgram, OptionalTensor dvectors,
    OptionalTensor dscalars, OptionalTensor dtotal_entropy, OptionalTensor dlink_norm, Tensor s, Tensor gram,
    Tensor scalars, Tensor norm, Tensor m, Tensor x, OptionalTensor value, Tensor rowptr, Tensor col,
    Tensor ptr, OptionalTensor num_clusters, OptionalTensor rowptr_t, OptionalTensor col_t,
    OptionalTensor value_t, double temperature, bool given, bool mean, bool need_logits, bool need_x,
    bool need_value) {
  x = in_rows(x), num_clusters = in_order(num_clusters);
  SoftPoolBackward f{};
  f.batch = csr_batch(s, x, value, ptr, temperature, given, mean);
  set_clusters(f.batch, num_clusters);
  const Upstream grads = in_order({ds, dx, dadj, dgram, dvectors, dscalars, dtotal_entropy, dlink_norm});
  set_backward(f, grads, s, gram, scalars, norm, m);
  CsrAdjacency adjacency{csr(rowptr, col, value, f.batch.is_double), {}};
  if (rowptr_t) adjacency.transposed = csr(*rowptr_t, *col_t, value_t, f.batch.is_double);
  auto [dlogits, dlogits_data] = gradient_of(s, need_logits);
  auto [dfeatures, dfeatures_data] = gradient_of(x, need_x);
  Tensor dvalue = empty({need_value ? col.numel() : 0}, accumulation_type(f.batch.is_double));
  f.dlogits = dlogits_data, f.dfeatures = dfeatures_data;
  f.dadjacency = need_value ? dvalue.data_ptr() : nullptr;
  cpu::soft_pool_bwd(f, adjacency, runtime());
  return {std::move(dlogits), std::move(dfeatures), std::move(dvalue)};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(hierpool_native, m) {
  m.def(
      "soft_pool_csr_forward(Tensor logits, Tensor x, Tensor? value, Tensor rowptr, Tensor col, Tensor ptr,"
      " Tensor? num_clusters, float temperature, bool given, bool symmetric, bool want_gram, bool want_link, "
      "bool want_entropy,"
      " bool mean, bool save) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,"
      " Tensor, Tensor)");
  m.def(
      "soft_pool_csr_backward(Tensor? ds, Tensor? dx, Tensor? dadj, Tensor? dgram, Tensor? dvectors,"
      " Tensor? dscalars, Tensor? dtotal_entropy, Tensor? dlink_norm, Tensor s, Tensor gram,"
      " Tensor scalars, Tensor norm, Tensor m, Tensor x, Tensor? value, Tensor rowptr, Tensor col, "
      "Tensor ptr,"
      " Tensor? num_clusters, Tensor? rowptr_t, Tensor? col_t, Tensor? value_t, float temperature, bool "
      "given, bool mean,"
      " bool need_logits, bool need_x, bool need_value) -> (Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(hierpool_native, CPU, m) {
  m.impl("soft_pool_csr_forward", TORCH_BOX(&soft_pool_csr_forward));
  m.impl("soft_pool_csr_backward", TORCH_BOX(&soft_pool_csr_backward));
}

}  // namespace hierpool::torch_binding
