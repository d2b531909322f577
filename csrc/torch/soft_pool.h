// What the bindings of dense and of sparse soft pooling share.
#pragma once

#include <limits>
#include <tuple>
#include <utility>

#include "hierpool/soft_pool.h"
#include "torch/runtime.h"

namespace hierpool::torch_binding {

inline void check_rows(const Tensor& t, const char* name) {
  const int64_t last = t.dim() - 1;
  if (t.numel() == 0) return;  // its strides may be any numbers
  STD_TORCH_CHECK(t.size(last) <= 1 || t.stride(last) == 1, name, " must have a contiguous last dimension");
  STD_TORCH_CHECK(t.stride(last - 1) <= std::numeric_limits<int32_t>::max(), name,
                  " has rows that are too long");
}

// The leading dimension a BLAS accepts for rows of `width`; that of a single row says nothing.
inline int64_t row_stride(const Tensor& t, int64_t width) {
  const int64_t dim = t.dim() - 2;
  return t.size(dim) <= 1 ? width : t.stride(dim);
}

inline ScalarType accumulation_type(bool is_double) {
  return is_double ? ScalarType::Double : ScalarType::Float;
}

// The first row of each graph, [B + 1].
const int64_t* graphs_of(const Tensor& ptr, int64_t rows);

// Sets what a padded S [B, N, K] or a ragged one [ptr[B], K] says of a batch without features.
void set_padded(PoolBatch& batch, const Tensor& s, const OptionalTensor& mask,
                const OptionalTensor& num_nodes);
void set_ragged(PoolBatch& batch, const Tensor& s, const Tensor& ptr);

// Sets the number of clusters of each graph, after the batch.
void set_clusters(PoolBatch& batch, const OptionalTensor& num_clusters);

// The common part of a batch of S and X, whose last dimensions are K and F.
PoolBatch pool_batch(const Tensor& s, const Tensor& x, double temperature, bool given, bool mean);

using Forward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// The batch of tensors with dense adjacency, and the adjacency.
PoolBatch dense_batch(const Tensor& s, const Tensor& x, const Tensor& adj, const OptionalTensor& mask,
                      const OptionalTensor& num_nodes, double temperature, bool given, bool mean);
DenseAdjacency dense_adjacency(const Tensor& adj);

// The ragged batch; `value` is of the accumulation type.
PoolBatch csr_batch(const Tensor& s, const Tensor& x, const OptionalTensor& value, const Tensor& ptr,
                    double temperature, bool given, bool mean);

// Sets the logits, after the batch.
void set_logits(SoftPoolForward& f, const Tensor& logits);

// S, or its gradient: of the shape of the logits, contiguous.
Tensor empty_assignment(const PoolBatch& batch, const Tensor& logits);

// Allocates s, x, adj, gram, vectors, scalars, total_entropy and link_norm, and sets the arguments but for the batch, M
// and is_symmetric. `typed`: adj and link_norm have a dimension of edge types.
Forward set_forward(SoftPoolForward& f, const Tensor& logits, const Tensor& x, bool typed, int64_t symmetric,
                    bool want_gram, bool want_link, bool want_entropy);

using Outputs =
    std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// All outputs of a forward that has run, with link_norm once more as what the backward reads: callers may change the
// result.
Outputs outputs(Forward&& results, Tensor&& m, Tensor&& is_symmetric);

struct Upstream {
  OptionalTensor ds, dx, dadj, dgram, dvectors, dscalars, dtotal_entropy, dlink_norm;
};

Upstream in_order(const Upstream& grads);

// Sets the arguments but for the batch, is_symmetric and the outputs.
void set_backward(SoftPoolBackward& f, const Upstream& grads, const Tensor& s, const Tensor& gram,
                  const Tensor& scalars, const Tensor& norm, const Tensor& m);

// An output of the shape of `t`, or of one dimension of size 0 where it is not needed; and its data, or null.
std::pair<Tensor, void*> gradient_of(const Tensor& t, bool needed);

}  // namespace hierpool::torch_binding
