#include "torch/soft_pool.h"

#include <algorithm>
#include <cstring>

namespace hierpool::torch_binding {

void set_padded(PoolBatch& b, const Tensor& s, const OptionalTensor& mask, const OptionalTensor& num_nodes) {
  b.B = s.size(0), b.N = s.size(1);
  STD_TORCH_CHECK(b.N < std::numeric_limits<int32_t>::max(), "sizes must be below 2^31");
  b.mask = static_cast<const uint8_t*>(pointer(mask));
  b.num_nodes = static_cast<const int64_t*>(pointer(num_nodes));
}

const int64_t* graphs_of(const Tensor& ptr, int64_t rows) {
  STD_TORCH_CHECK(ptr.scalar_type() == ScalarType::Long && ptr.numel() > 0, "ptr must be int64 [B + 1]");
  const int64_t* first = static_cast<const int64_t*>(pointer(ptr));
  const int64_t graphs = ptr.numel() - 1;
  STD_TORCH_CHECK(first[0] == 0 && first[graphs] == rows && std::is_sorted(first, first + graphs + 1),
                  "ptr must ascend from 0 to the number of rows");
  return first;
}

void set_ragged(PoolBatch& b, const Tensor& s, const Tensor& ptr) {
  b.ptr = graphs_of(ptr, s.size(0));
  b.B = ptr.numel() - 1;
  for (int64_t g = 0; g < b.B; ++g) b.N = std::max(b.N, b.ptr[g + 1] - b.ptr[g]);
}

void set_clusters(PoolBatch& b, const OptionalTensor& num_clusters) {
  b.num_clusters = static_cast<const int64_t*>(pointer(num_clusters));
  if (!num_clusters) return;
  STD_TORCH_CHECK(num_clusters->scalar_type() == ScalarType::Long && num_clusters->numel() == b.B,
                  "num_clusters must be int64 [B]");
  const auto exist = [&](int64_t k) { return k >= 1 && k <= b.K; };
  STD_TORCH_CHECK(std::all_of(b.num_clusters, b.num_clusters + b.B, exist),
                  "num_clusters must lie between 1 and K");
}

PoolBatch pool_batch(const Tensor& s, const Tensor& x, double temperature, bool given, bool mean) {
  check_rows(x, "x");
  PoolBatch b{};
  b.R = 1;
  b.K = s.size(s.dim() - 1), b.F = x.size(x.dim() - 1);
  STD_TORCH_CHECK(b.K < std::numeric_limits<int32_t>::max() && b.F < std::numeric_limits<int32_t>::max(),
                  "sizes must be below 2^31");
  b.s_type = dtype(s), b.x_type = dtype(x);
  b.x = x.data_ptr();
  b.x_stride_b = x.stride(0), b.x_stride_n = row_stride(x, b.F);
  b.inverse_temperature = 1 / temperature;
  b.given = given;
  b.mean = mean;
  return b;
}

void set_logits(SoftPoolForward& f, const Tensor& logits) {
  check_rows(logits, "logits");
  f.logits = logits.data_ptr();
  f.logits_stride_b = logits.stride(0), f.logits_stride_n = row_stride(logits, f.batch.K);
}

Tensor empty_assignment(const PoolBatch& batch, const Tensor& logits) {
  const ScalarType type = logits.scalar_type();
  return batch.ptr ? empty({logits.size(0), batch.K}, type) : empty({batch.B, batch.N, batch.K}, type);
}

Forward set_forward(SoftPoolForward& f, const Tensor& logits, const Tensor& x, bool typed, int64_t symmetric,
                    bool want_gram, bool want_link, bool want_entropy) {
  set_logits(f, logits);
  const auto [B, R, K, F] = std::tuple(f.batch.B, f.batch.R, f.batch.K, f.batch.F);
  const ScalarType acc = accumulation_type(f.batch.is_double);
  const int64_t gram_size = want_gram ? K : 0;
  Forward out{empty_assignment(f.batch, logits),
              empty({B, K, F}, x.scalar_type()),
              typed ? empty({B, R, K, K}, acc) : empty({B, K, K}, acc),
              empty({B, gram_size, gram_size}, acc),
              empty({B, 1 + R, K}, acc),
              empty({B, 2 + 4 * R}, acc),
              empty({}, acc),
              typed ? empty({R}, acc) : empty({}, acc)};
  f.symmetric = static_cast<int>(symmetric);
  f.want_link = want_link, f.want_entropy = want_entropy;
  const auto& [s, x_pooled, adj_pooled, gram, vectors, scalars, total_entropy, link_norm] = out;
  f.s = s.data_ptr(), f.x_pooled = x_pooled.data_ptr(), f.adj_pooled = adj_pooled.data_ptr();
  f.gram = want_gram ? gram.data_ptr() : nullptr;
  f.vectors = vectors.data_ptr(), f.scalars = scalars.data_ptr();
  f.total_entropy = total_entropy.data_ptr(), f.link_norm = link_norm.data_ptr();
  return out;
}

Outputs outputs(Forward&& results, Tensor&& m, Tensor&& is_symmetric) {
  const Tensor& link_norm = std::get<7>(results);
  Tensor norm = link_norm.dim() ? empty({link_norm.numel()}, link_norm.scalar_type())
                                : empty({}, link_norm.scalar_type());
  std::memcpy(norm.data_ptr(), link_norm.data_ptr(), link_norm.numel() * link_norm.element_size());
  return std::tuple_cat(std::move(results),
                        std::tuple(std::move(norm), std::move(m), std::move(is_symmetric)));
}

Upstream in_order(const Upstream& grads) {
  const auto& [ds, dx, dadj, dgram, dvectors, dscalars, dtotal_entropy, dlink_norm] = grads;
  return {in_order(ds),       in_order(dx),       in_order(dadj),           in_order(dgram),
          in_order(dvectors), in_order(dscalars), in_order(dtotal_entropy), in_order(dlink_norm)};
}

void set_backward(SoftPoolBackward& f, const Upstream& grads, const Tensor& s, const Tensor& gram,
                  const Tensor& scalars, const Tensor& norm, const Tensor& m) {
  f.s = pointer(s), f.gram = pointer(OptionalTensor(gram)), f.link_norm = pointer(norm);
  f.scalars = pointer(scalars), f.m = pointer(OptionalTensor(m));
  f.ds = pointer(grads.ds), f.dx = pointer(grads.dx), f.dadj = pointer(grads.dadj),
  f.dgram = pointer(grads.dgram);
  f.dvectors = pointer(grads.dvectors), f.dscalars = pointer(grads.dscalars);
  f.dtotal_entropy = pointer(grads.dtotal_entropy), f.dlink_norm = pointer(grads.dlink_norm);
}

std::pair<Tensor, void*> gradient_of(const Tensor& t, bool needed) {
  if (!needed) return {empty({0}, t.scalar_type()), nullptr};
  const auto make = [&] {
    switch (t.dim()) {
      case 1: return empty({t.size(0)}, t.scalar_type());
      case 2: return empty({t.size(0), t.size(1)}, t.scalar_type());
      case 3: return empty({t.size(0), t.size(1), t.size(2)}, t.scalar_type());
      default: return empty({t.size(0), t.size(1), t.size(2), t.size(3)}, t.scalar_type());
    }
  };
  Tensor out = make();
  void* data = out.data_ptr();
  return {std::move(out), data};
}

}  // namespace hierpool::torch_binding
