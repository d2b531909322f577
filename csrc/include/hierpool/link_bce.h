// Contract of the binary cross-entropy link loss on the CPU; names and layouts are those of soft_pool.h.
#pragma once

#include <cstdint>

#include "hierpool/soft_pool.h"

namespace hierpool {

// What the sum over all pairs is divided by: 1, B N^2, or the pairs of valid nodes.
enum class LinkDivisor : int32_t { one, numel, valid };

struct LinkBce {
  PoolBatch batch;  // without features: F = 0
  const void* s;    // [.., K]
  int64_t s_stride_b, s_stride_n;
  bool symmetric;  // the caller promises that A is symmetric
  double eps;
  LinkDivisor divisor;
};

struct LinkBceBackward {
  LinkBce forward;
  const void* dloss;  // []  Acc
  // Outputs, contiguous; null where not needed.
  void* ds;          // [.., K]    dtype of S
  void* dadjacency;  // [B, N, N]  dtype of A; of a sparse A, its entries in Acc
};

namespace cpu {

// The result does not depend on runtime.threads.
void link_bce_fwd(const LinkBce& args, const DenseAdjacency& adjacency, void* loss, const Runtime& runtime);
void link_bce_fwd(const LinkBce& args, const CsrAdjacency& adjacency, void* loss, const Runtime& runtime);
void link_bce_bwd(const LinkBceBackward& args, const DenseAdjacency& adjacency, const Runtime& runtime);
void link_bce_bwd(const LinkBceBackward& args, const CsrAdjacency& adjacency, const Runtime& runtime);

}  // namespace cpu

}  // namespace hierpool
