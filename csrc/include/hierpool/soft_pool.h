// Contract of soft pooling on the CPU: raw pointers, int64 sizes, strides in elements.
// Columns beyond the clusters of a graph are not read, and are 0 in outputs but M.
// Symbols are those of the public documentation: B graphs, R edge types, K clusters, F features, N nodes of a graph.
// `Acc` is float, or double where any input is f64. Last dimensions are contiguous.
#pragma once

#include <cstdint>

#include "hierpool/csr.h"
#include "hierpool/runtime.h"

namespace hierpool {

// A batch is padded, [B, N, ..], or ragged: its rows one graph after another, [ptr[B], ..].
struct PoolBatch {
  int64_t B, R, N, K, F;  // N: rows of a padded graph; of a ragged batch, nodes of its largest graph
  bool is_double;         // Acc is double
  DType s_type, x_type;   // of logits and S; of X
  const int64_t* ptr;     // [B + 1]: graph b has the rows from ptr[b] to ptr[b + 1]; null: padded
  const void* x;          // [.., F]
  int64_t x_stride_b, x_stride_n;
  const uint8_t* mask;       // [B, N] contiguous, or null
  const int64_t* num_nodes;  // [B] contiguous, or null
  const int64_t*
      num_clusters;  // [B] contiguous, from 1 to K: clusters of each graph, its first columns; null: K
  double inverse_temperature;
  bool given;  // the logits are S itself
  bool mean;   // total_entropy is divided by B N and link_norm by B N^2

  int64_t clusters(int64_t b) const { return num_clusters ? num_clusters[b] : K; }
  int64_t rows() const { return ptr ? ptr[B] : B * N; }
};

// [B, R, N, N]
struct DenseAdjacency {
  DType type;
  const void* data;
  int64_t stride_b, stride_r, stride_n;
};

// The block-diagonal matrix of a ragged batch, R = 1, and its transpose; without a rowptr, A is symmetric or the transpose
// is not needed.
struct CsrAdjacency {
  Csr a, transposed;
};

struct SoftPoolForward {
  PoolBatch batch;
  const void* logits;  // [.., K]
  int64_t logits_stride_b, logits_stride_n;
  int symmetric;  // 1: A is symmetric; 0: it is not; -1: to be determined (dense only)
  bool want_link, want_entropy;
  // Outputs, contiguous.
  void* s;                 // [.., K]             dtype of logits
  void* x_pooled;          // [B, K, F]           dtype of X
  void* adj_pooled;        // [B, R, K, K]        Acc
  void* gram;              // [B, K, K] or null   Acc
  void* vectors;           // [B, 1 + R, K]       Acc
  void* scalars;           // [B, 2 + 4R]         Acc: n, the entropy, then R each of the cut degree,
                           //                          |A|, the total degree, and |A - S S^T|
  void* total_entropy;     // []                  Acc
  void* link_norm;         // [R]                 Acc
  void* m;                 // [B, R, N, K], [ptr[B], K] or null  Acc; rows of invalid nodes are not written
  uint8_t* is_symmetric;   // [B, R] or null
  void* degree = nullptr;  // [B, R, N], [ptr[B]] or null  Acc; for the backward, in an internal order
};

struct SoftPoolBackward {
  PoolBatch batch;
  // Saved by the forward, contiguous.
  const void *s, *gram, *scalars, *link_norm, *m;  // gram may be null; scalars too, without a link loss
  const uint8_t* is_symmetric;                     // [B, R]
  // Upstream gradients, contiguous; null where not given. ds, dx have the dtypes of S and X, the rest is Acc.
  const void *ds, *dx, *dadj, *dgram, *dvectors, *dscalars, *dtotal_entropy, *dlink_norm;
  // Outputs, contiguous; null where not needed. Dtypes of logits, X and A; of a sparse A, its entries in Acc.
  void *dlogits, *dfeatures, *dadjacency;
  const void* degree = nullptr;  // as the forward wrote it; null: computed again where it is needed
};

namespace cpu {

// The result does not depend on runtime.threads.
void soft_pool_fwd(const SoftPoolForward& args, const DenseAdjacency& adjacency, const Runtime& runtime);
void soft_pool_fwd(const SoftPoolForward& args, const CsrAdjacency& adjacency, const Runtime& runtime);
void soft_pool_bwd(const SoftPoolBackward& args, const DenseAdjacency& adjacency, const Runtime& runtime);
void soft_pool_bwd(const SoftPoolBackward& args, const CsrAdjacency& adjacency, const Runtime& runtime);

}  // namespace cpu

}  // namespace hierpool
