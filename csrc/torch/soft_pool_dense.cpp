// hierpool_native::soft_pool_dense_{forward,backward}: fill the outputs that hierpool.ops allocated and checked.
#include "hierpool/soft_pool_dense.h"

#include <torch/csrc/stable/library.h>

#include <limits>

#include "torch/runtime.h"

namespace hierpool::torch_binding {
namespace {

using OptionalTensor = std::optional<Tensor>;

void check_rows(const Tensor& t, const char* name) {
  const int64_t last = t.dim() - 1;
  STD_TORCH_CHECK(t.size(last) <= 1 || t.stride(last) == 1, name, " must have a contiguous last dimension");
  STD_TORCH_CHECK(t.stride(last - 1) <= std::numeric_limits<int32_t>::max(), name,
                  " has rows that are too long");
}

// The leading dimension a BLAS accepts for rows of `width`; that of a single row says nothing.
int64_t row_stride(const Tensor& t, int64_t width) {
  const int64_t dim = t.dim() - 2;
  return t.size(dim) <= 1 ? width : t.stride(dim);
}

DenseBatch batch(const Tensor& s, const Tensor& x, const Tensor& adj, const OptionalTensor& mask,
                 const OptionalTensor& num_nodes, double temperature, bool given, bool mean) {
  check_rows(x, "x");
  check_rows(adj, "adj");
  DenseBatch b{};
  b.B = s.size(0), b.N = s.size(1), b.K = s.size(2), b.F = x.size(2), b.R = adj.size(1);
  STD_TORCH_CHECK(b.N < std::numeric_limits<int32_t>::max() && b.K < std::numeric_limits<int32_t>::max() &&
                      b.F < std::numeric_limits<int32_t>::max(),
                  "sizes must be below 2^31");
  b.s_type = dtype(s), b.x_type = dtype(x), b.adj_type = dtype(adj);
  b.wide = b.s_type == DType::f64 || b.x_type == DType::f64 || b.adj_type == DType::f64;
  b.x = x.data_ptr(), b.adj = adj.data_ptr();
  b.x_stride_b = x.stride(0), b.x_stride_n = row_stride(x, b.F);
  b.adj_stride_b = adj.stride(0), b.adj_stride_r = adj.stride(1), b.adj_stride_n = row_stride(adj, b.N);
  b.mask = static_cast<const uint8_t*>(pointer(mask));
  b.num_nodes = static_cast<const int64_t*>(pointer(num_nodes));
  b.inverse_temperature = 1 / temperature;
  b.given = given;
  b.mean = mean;
  return b;
}

// symmetric: 1, 0, or -1 for unknown.
void soft_pool_dense_forward(Tensor s, Tensor x_pooled, Tensor adj_pooled, Tensor gram, Tensor vectors,
                             Tensor scalars, Tensor total_entropy, Tensor link_norm, Tensor m,
                             Tensor is_symmetric, Tensor logits, Tensor x, Tensor adj, OptionalTensor mask,
                             OptionalTensor num_nodes, double temperature, bool given, int64_t symmetric,
                             bool want_link, bool want_entropy, bool mean) {
  check_rows(logits, "logits");
  SoftPoolDenseForward f{};
  f.batch = batch(s, x, adj, mask, num_nodes, temperature, given, mean);
  f.logits = logits.data_ptr();
  f.logits_stride_b = logits.stride(0), f.logits_stride_n = row_stride(logits, f.batch.K);
  f.symmetric = static_cast<int>(symmetric);
  f.want_link = want_link, f.want_entropy = want_entropy;
  f.s = pointer(s), f.x_pooled = pointer(x_pooled), f.adj_pooled = pointer(adj_pooled);
  f.gram = pointer(OptionalTensor(gram));
  f.vectors = pointer(vectors), f.scalars = pointer(scalars);
  f.total_entropy = pointer(total_entropy), f.link_norm = pointer(link_norm);
  f.m = pointer(OptionalTensor(m));
  f.is_symmetric = static_cast<uint8_t*>(pointer(OptionalTensor(is_symmetric)));
  cpu::soft_pool_dense_forward(f, runtime());
}

void soft_pool_dense_backward(OptionalTensor dlogits, OptionalTensor dfeatures, OptionalTensor dadjacency,
                              OptionalTensor ds, OptionalTensor dx, OptionalTensor dadj, OptionalTensor dgram,
                              OptionalTensor dvectors, OptionalTensor dscalars, OptionalTensor dtotal_entropy,
                              OptionalTensor dlink_norm, Tensor s, Tensor gram, Tensor link_norm, Tensor m,
                              Tensor is_symmetric, Tensor x, Tensor adj, OptionalTensor mask,
                              OptionalTensor num_nodes, double temperature, bool given, bool mean) {
  SoftPoolDenseBackward f{};
  f.batch = batch(s, x, adj, mask, num_nodes, temperature, given, mean);
  f.s = pointer(s), f.gram = pointer(OptionalTensor(gram)), f.link_norm = pointer(link_norm);
  f.m = pointer(OptionalTensor(m));
  f.is_symmetric = static_cast<const uint8_t*>(pointer(OptionalTensor(is_symmetric)));
  f.ds = pointer(ds), f.dx = pointer(dx), f.dadj = pointer(dadj), f.dgram = pointer(dgram);
  f.dvectors = pointer(dvectors), f.dscalars = pointer(dscalars), f.dtotal_entropy = pointer(dtotal_entropy);
  f.dlink_norm = pointer(dlink_norm);
  f.dlogits = pointer(dlogits), f.dfeatures = pointer(dfeatures), f.dadjacency = pointer(dadjacency);
  cpu::soft_pool_dense_backward(f, runtime());
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(hierpool_native, m) {
  m.def(
      "soft_pool_dense_forward(Tensor(a!) s, Tensor(b!) x_pooled, Tensor(c!) adj_pooled, Tensor(d!) gram,"
      " Tensor(e!) vectors, Tensor(f!) scalars, Tensor(g!) total_entropy, Tensor(h!) link_norm, Tensor(i!) m,"
      " Tensor(j!) is_symmetric, Tensor logits, Tensor x, Tensor adj, Tensor? mask, Tensor? num_nodes,"
      " float temperature, bool given, int symmetric, bool want_link, bool want_entropy, bool mean) -> ()");
  m.def(
      "soft_pool_dense_backward(Tensor(a!)? dlogits, Tensor(b!)? dfeatures, Tensor(c!)? dadjacency, Tensor? "
      "ds,"
      " Tensor? dx, Tensor? dadj, Tensor? dgram, Tensor? dvectors, Tensor? dscalars, Tensor? dtotal_entropy,"
      " Tensor? dlink_norm, Tensor s, Tensor gram, Tensor link_norm, Tensor m, Tensor is_symmetric, Tensor x,"
      " Tensor adj, Tensor? mask, Tensor? num_nodes, float temperature, bool given, bool mean) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(hierpool_native, CPU, m) {
  m.impl("soft_pool_dense_forward", TORCH_BOX(&soft_pool_dense_forward));
  m.impl("soft_pool_dense_backward", TORCH_BOX(&soft_pool_dense_backward));
}

}  // namespace hierpool::torch_binding
