// Contract of dense soft pooling on the CPU: raw pointers, int64 sizes, strides in elements.
// Symbols are those of the public documentation: B graphs, R edge types, N padded nodes, K clusters, F features.
// `Acc` is float, or double where any input is f64. Last dimensions are contiguous.
#pragma once

#include <cstdint>

#include "hierpool/runtime.h"

namespace hierpool {

struct DenseBatch {
  int64_t B, R, N, K, F;
  bool wide;                       // Acc is double
  DType s_type, x_type, adj_type;  // of logits and S; of X; of A
  const void* x;                   // [B, N, F]
  const void* adj;                 // [B, R, N, N]
  int64_t x_stride_b, x_stride_n;
  int64_t adj_stride_b, adj_stride_r, adj_stride_n;
  const uint8_t* mask;       // [B, N] contiguous, or null
  const int64_t* num_nodes;  // [B] contiguous, or null
  double inverse_temperature;
  bool given;  // the logits are S itself
  bool mean;   // total_entropy is divided by B N and link_norm by B N^2
};

struct SoftPoolDenseForward {
  DenseBatch batch;
  const void* logits;  // [B, N, K]
  int64_t logits_stride_b, logits_stride_n;
  int symmetric;  // 1 known to be, 0 known not to be, -1 to be found out
  bool want_link, want_entropy;
  // Outputs, contiguous.
  void* s;                // [B, N, K]           dtype of logits
  void* x_pooled;         // [B, K, F]           dtype of X
  void* adj_pooled;       // [B, R, K, K]        Acc
  void* gram;             // [B, K, K] or null   Acc
  void* vectors;          // [B, 1 + R, K]       Acc
  void* scalars;          // [B, 2 + 4R]         Acc
  void* total_entropy;    // []                  Acc
  void* link_norm;        // [R]                 Acc
  void* m;                // [B, R, N, K] or null  Acc; rows of invalid nodes are not written
  uint8_t* is_symmetric;  // [B, R] or null
};

struct SoftPoolDenseBackward {
  DenseBatch batch;
  // Saved by the forward, contiguous.
  const void *s, *gram, *link_norm, *m;  // gram may be null
  const uint8_t* is_symmetric;
  // Upstream gradients, contiguous; null where not given. ds, dx have the dtypes of S and X, the rest is Acc.
  const void *ds, *dx, *dadj, *dgram, *dvectors, *dscalars, *dtotal_entropy, *dlink_norm;
  // Outputs, contiguous; null where not needed. Dtypes of logits, X and A.
  void *dlogits, *dfeatures, *dadjacency;
};

namespace cpu {

// The same bits for the same input whatever runtime.threads is.
void soft_pool_dense_forward(const SoftPoolDenseForward& args, const Runtime& runtime);
void soft_pool_dense_backward(const SoftPoolDenseBackward& args, const Runtime& runtime);

}  // namespace cpu

}  // namespace hierpool
