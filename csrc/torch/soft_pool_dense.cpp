// hierpool_native::soft_pool_dense_{forward,backward}. Arguments were checked by hierpool.ops; the shapes returned are
// those of its fake kernel.
#include "hierpool/soft_pool_dense.h"

#include <torch/csrc/stable/library.h>

#include <limits>
#include <tuple>
#include <utility>

#include "torch/runtime.h"

namespace hierpool::torch_binding {
namespace {

using torch::headeronly::ScalarType;
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
  b.B = s.size(0), b.N = s.size(1), b.K = s.size(2), b.F = x.size(2);
  b.R = adj.dim() == 4 ? adj.size(1) : 1;
  STD_TORCH_CHECK(b.N < std::numeric_limits<int32_t>::max() && b.K < std::numeric_limits<int32_t>::max() &&
                      b.F < std::numeric_limits<int32_t>::max(),
                  "sizes must be below 2^31");
  b.s_type = dtype(s), b.x_type = dtype(x), b.adj_type = dtype(adj);
  b.wide = b.s_type == DType::f64 || b.x_type == DType::f64 || b.adj_type == DType::f64;
  b.x = x.data_ptr(), b.adj = adj.data_ptr();
  b.x_stride_b = x.stride(0), b.x_stride_n = row_stride(x, b.F);
  b.adj_stride_b = adj.stride(0), b.adj_stride_r = adj.dim() == 4 ? adj.stride(1) : 0;
  b.adj_stride_n = row_stride(adj, b.N);
  b.mask = static_cast<const uint8_t*>(pointer(mask));
  b.num_nodes = static_cast<const int64_t*>(pointer(num_nodes));
  b.inverse_temperature = 1 / temperature;
  b.given = given;
  b.mean = mean;
  return b;
}

ScalarType accumulation_type(const DenseBatch& b) { return b.wide ? ScalarType::Double : ScalarType::Float; }

using Forward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// symmetric: 1, 0, or -1 for unknown. Returns s, x, adj, gram, vectors, scalars, total_entropy, link_norm, m,
// is_symmetric.
Forward soft_pool_dense_forward(Tensor logits, Tensor x, Tensor adj, OptionalTensor mask,
                                OptionalTensor num_nodes, double temperature, bool given, int64_t symmetric,
                                bool want_gram, bool want_link, bool want_entropy, bool mean, bool save) {
  check_rows(logits, "logits");
  SoftPoolDenseForward f{};
  f.batch = batch(logits, x, adj, mask, num_nodes, temperature, given, mean);
  const auto [B, R, N, K, F] = std::tuple(f.batch.B, f.batch.R, f.batch.N, f.batch.K, f.batch.F);
  const ScalarType acc = accumulation_type(f.batch);
  const bool typed = adj.dim() == 4;  // with a dimension of edge types
  const int64_t kept = save ? N : 0, gram_size = want_gram ? K : 0;
  Forward out{empty({B, N, K}, logits.scalar_type()),
              empty({B, K, F}, x.scalar_type()),
              typed ? empty({B, R, K, K}, acc) : empty({B, K, K}, acc),
              empty({B, gram_size, gram_size}, acc),
              empty({B, 1 + R, K}, acc),
              empty({B, 2 + 4 * R}, acc),
              empty({}, acc),
              typed ? empty({R}, acc) : empty({}, acc),
              empty({B, R, kept, K}, acc),
              empty({B, save ? R : 0}, ScalarType::Bool)};
  f.logits = logits.data_ptr();
  f.logits_stride_b = logits.stride(0), f.logits_stride_n = row_stride(logits, K);
  f.symmetric = static_cast<int>(symmetric);
  f.want_link = want_link, f.want_entropy = want_entropy;
  const auto& [s, x_pooled, adj_pooled, gram, vectors, scalars, total_entropy, link_norm, m, is_symmetric] =
      out;
  f.s = s.data_ptr(), f.x_pooled = x_pooled.data_ptr(), f.adj_pooled = adj_pooled.data_ptr();
  f.gram = want_gram ? gram.data_ptr() : nullptr;
  f.vectors = vectors.data_ptr(), f.scalars = scalars.data_ptr();
  f.total_entropy = total_entropy.data_ptr(), f.link_norm = link_norm.data_ptr();
  f.m = save ? m.data_ptr() : nullptr;
  f.is_symmetric = save ? static_cast<uint8_t*>(is_symmetric.data_ptr()) : nullptr;
  cpu::soft_pool_dense_forward(f, runtime());
  return out;
}

// An output of the shape of `t`, or of one dimension of size 0 where it is not needed; and its data, or null.
std::pair<Tensor, void*> gradient_of(const Tensor& t, bool needed) {
  if (!needed) return {empty({0}, t.scalar_type()), nullptr};
  Tensor out = t.dim() == 4 ? empty({t.size(0), t.size(1), t.size(2), t.size(3)}, t.scalar_type())
                            : empty({t.size(0), t.size(1), t.size(2)}, t.scalar_type());
  void* data = out.data_ptr();
  return {std::move(out), data};
}

std::tuple<Tensor, Tensor, Tensor> soft_pool_dense_backward(
    OptionalTensor ds, OptionalTensor dx, OptionalTensor dadj, OptionalTensor dgram, OptionalTensor dvectors,
    OptionalTensor dscalars, OptionalTensor dtotal_entropy, OptionalTensor dlink_norm, Tensor s, Tensor gram,
    Tensor link_norm, Tensor m, Tensor is_symmetric, Tensor x, Tensor adj, OptionalTensor mask,
    OptionalTensor num_nodes, double temperature, bool given, bool mean, bool need_logits, bool need_x,
    bool need_adj) {
  SoftPoolDenseBackward f{};
  f.batch = batch(s, x, adj, mask, num_nodes, temperature, given, mean);
  f.s = pointer(s), f.gram = pointer(OptionalTensor(gram)), f.link_norm = pointer(link_norm);
  f.m = pointer(OptionalTensor(m));
  f.is_symmetric = static_cast<const uint8_t*>(pointer(OptionalTensor(is_symmetric)));
  f.ds = pointer(ds), f.dx = pointer(dx), f.dadj = pointer(dadj), f.dgram = pointer(dgram);
  f.dvectors = pointer(dvectors), f.dscalars = pointer(dscalars), f.dtotal_entropy = pointer(dtotal_entropy);
  f.dlink_norm = pointer(dlink_norm);
  auto [dlogits, dlogits_data] = gradient_of(s, need_logits);
  auto [dfeatures, dfeatures_data] = gradient_of(x, need_x);
  auto [dadjacency, dadjacency_data] = gradient_of(adj, need_adj);
  f.dlogits = dlogits_data, f.dfeatures = dfeatures_data, f.dadjacency = dadjacency_data;
  cpu::soft_pool_dense_backward(f, runtime());
  return {std::move(dlogits), std::move(dfeatures), std::move(dadjacency)};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(hierpool_native, m) {
  m.def(
      "soft_pool_dense_forward(Tensor logits, Tensor x, Tensor adj, Tensor? mask, Tensor? num_nodes, float "
      "temperature,"
      " bool given, int symmetric, bool want_gram, bool want_link, bool want_entropy, bool mean, bool save)"
      " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "soft_pool_dense_backward(Tensor? ds, Tensor? dx, Tensor? dadj, Tensor? dgram, Tensor? dvectors,"
      " Tensor? dscalars, Tensor? dtotal_entropy, Tensor? dlink_norm, Tensor s, Tensor gram, Tensor "
      "link_norm, Tensor m,"
      " Tensor is_symmetric, Tensor x, Tensor adj, Tensor? mask, Tensor? num_nodes, float temperature, bool "
      "given,"
      " bool mean, bool need_logits, bool need_x, bool need_adj) -> (Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(hierpool_native, CPU, m) {
  m.impl("soft_pool_dense_forward", TORCH_BOX(&soft_pool_dense_forward));
  m.impl("soft_pool_dense_backward", TORCH_BOX(&soft_pool_dense_backward));
}

}  // namespace hierpool::torch_binding
