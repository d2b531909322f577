// hierpool_native::soft_pool_dense_{forward,backward}. Arguments were checked by hierpool.ops; the shapes returned are
// those of its fake kernel.
#include <torch/csrc/stable/library.h>

#include "torch/soft_pool.h"

namespace hierpool::torch_binding {

DenseAdjacency dense_adjacency(const Tensor& adj) {
  check_rows(adj, "adj");
  return {dtype(adj), adj.data_ptr(), adj.stride(0), adj.dim() == 4 ? adj.stride(1) : 0,
          row_stride(adj, adj.size(adj.dim() - 1))};
}

PoolBatch dense_batch(const Tensor& s, const Tensor& x, const Tensor& adj, const OptionalTensor& mask,
                      const OptionalTensor& num_nodes, double temperature, bool given, bool mean) {
  PoolBatch b = pool_batch(s, x, temperature, given, mean);
  set_padded(b, s, mask, num_nodes);
  b.R = adj.dim() == 4 ? adj.size(1) : 1;
  b.is_double = b.s_type == DType::f64 || b.x_type == DType::f64 || dtype(adj) == DType::f64;
  return b;
}

namespace {

// symmetric: 1, 0, or -1 for unknown. Returns s, x, adj, gram, vectors, scalars, total_entropy, link_norm, norm, m,
// is_symmetric.
Outputs soft_pool_dense_forward(Tensor logits, Tensor x, Tensor adj, OptionalTensor mask,
                                OptionalTensor num_nodes, OptionalTensor num_clusters, double temperature,
                                bool given, int64_t symmetric, bool want_gram, bool want_link,
                                bool want_entropy, bool mean, bool save) {
  for (Tensor* t : {&logits, &x, &adj}) *t = in_rows(*t);
  for (OptionalTensor* t : {&mask, &num_nodes, &num_clusters}) *t = in_order(*t);
  SoftPoolForward f{};
  f.batch = dense_batch(logits, x, adj, mask, num_nodes, temperature, given, mean);
  set_clusters(f.batch, num_clusters);
  Forward out = set_forward(f, logits, x, adj.dim() == 4, symmetric, want_gram, want_link, want_entropy);
  const int64_t B = f.batch.B, R = f.batch.R;
  Tensor m = empty({B, R, save ? f.batch.N : 0, f.batch.K}, accumulation_type(f.batch.is_double));
  Tensor is_symmetric = empty({B, save ? R : 0}, ScalarType::Bool);
  f.m = save ? m.data_ptr() : nullptr;
  f.is_symmetric = save ? static_cast<uint8_t*>(is_symmetric.data_ptr()) : nullptr;
  cpu::soft_pool_fwd(f, dense_adjacency(adj), runtime());
  return outputs(std::move(out), std::move(m), std::move(is_symmetric));
}

std::tuple<Tensor, Tensor, Tensor> soft_pool_dense_backward(
    OptionalTensor ds, OptionalTensor dx, OptionalTensor dadj, OptionalTensor dgram, OptionalTensor dvectors,
    OptionalTensor dscalars, OptionalTensor dtotal_entropy, OptionalTensor dlink_norm, Tensor s, Tensor gram,
    Tensor scalars, Tensor norm, Tensor m, Tensor is_symmetric, Tensor x, Tensor adj, OptionalTensor mask,
    OptionalTensor num_nodes, OptionalTensor num_clusters, double temperature, bool given, bool mean,
    bool need_logits, bool need_x, bool need_adj) {
  for (Tensor* t : {&x, &adj}) *t = in_rows(*t);
  for (OptionalTensor* t : {&mask, &num_nodes, &num_clusters}) *t = in_order(*t);
  SoftPoolBackward f{};
  f.batch = dense_batch(s, x, adj, mask, num_nodes, temperature, given, mean);
  set_clusters(f.batch, num_clusters);
  const Upstream grads = in_order({ds, dx, dadj, dgram, dvectors, dscalars, dtotal_entropy, dlink_norm});
  set_backward(f, grads, s, gram, scalars, norm, m);
  f.is_symmetric = static_cast<const uint8_t*>(pointer(OptionalTensor(is_symmetric)));
  auto [dlogits, dlogits_data] = gradient_of(s, need_logits);
  auto [dfeatures, dfeatures_data] = gradient_of(x, need_x);
  auto [dadjacency, dadjacency_data] = gradient_of(adj, need_adj);
  f.dlogits = dlogits_data, f.dfeatures = dfeatures_data, f.dadjacency = dadjacency_data;
  cpu::soft_pool_bwd(f, dense_adjacency(adj), runtime());
  return {std::move(dlogits), std::move(dfeatures), std::move(dadjacency)};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(hierpool_native, m) {
  m.def(
      "soft_pool_dense_forward(Tensor logits, Tensor x, Tensor adj, Tensor? mask, Tensor? num_nodes,"
      " Tensor? num_clusters, float temperature, bool given, int symmetric, bool want_gram, bool want_link, "
      "bool want_entropy,"
      " bool mean, bool save) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,"
      " Tensor, Tensor)");
  m.def(
      "soft_pool_dense_backward(Tensor? ds, Tensor? dx, Tensor? dadj, Tensor? dgram, Tensor? dvectors,"
      " Tensor? dscalars, Tensor? dtotal_entropy, Tensor? dlink_norm, Tensor s, Tensor gram,"
      " Tensor scalars, Tensor norm, Tensor m, Tensor is_symmetric, Tensor x, Tensor adj, Tensor? mask,"
      " Tensor? num_nodes, Tensor? num_clusters, float temperature, bool given, bool mean, bool need_logits, "
      "bool need_x,"
      " bool need_adj) -> (Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(hierpool_native, CPU, m) {
  m.impl("soft_pool_dense_forward", TORCH_BOX(&soft_pool_dense_forward));
  m.impl("soft_pool_dense_backward", TORCH_BOX(&soft_pool_dense_backward));
}

}  // namespace hierpool::torch_binding
