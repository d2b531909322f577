// Contract of the balance term of the asymmetric Cheeger cut on the CPU; names and layouts are those of soft_pool.h.
#pragma once

#include <cstdint>

#include "hierpool/soft_pool.h"

namespace hierpool {

struct AsymmetricNorm {
  PoolBatch batch;  // without features: F = 0
  const void* s;    // [.., K]
  int64_t s_stride_b, s_stride_n;
};

// Contiguous. Of a graph without nodes, and in columns that are no clusters of the graph, q is 0 and the row -1.
struct AsymmetricNormForward {
  AsymmetricNorm input;
  void* norm;      // [B]     Acc
  void* quantile;  // [B, K]  dtype of S: q, the (n / K)-th largest entry of a column
  int64_t* row;    // [B, K]  the first row of the graph that has it
  void* slope;     // [B, K]  Acc: the derivative of the norm with respect to q
};

struct AsymmetricNormBackward {
  AsymmetricNorm input;
  const void* dnorm;  // [B]  Acc
  const void* quantile;
  const int64_t* row;
  const void* slope;  // saved by the forward
  void* ds;           // [.., K]  dtype of S, contiguous
};

namespace cpu {

// The result does not depend on runtime.threads.
void asymmetric_norm_fwd(const AsymmetricNormForward& args, const Runtime& runtime);
void asymmetric_norm_bwd(const AsymmetricNormBackward& args, const Runtime& runtime);

}  // namespace cpu

}  // namespace hierpool
