// Contract of rows pooled by a score that is a function of their projection, and of their gradients, on the CPU.
#pragma once

#include <cstdint>

#include "hierpool/activation.h"
#include "hierpool/graph_contract.h"
#include "hierpool/runtime.h"

namespace hierpool {

// y_k = multiplier sum_{c_i = k} s_i x_i with s = activation(X w + b), w divided by its norm if `unit`. T is double where
// `is_double`, else float; I is int64_t where `int64_index`, else int32_t.
struct ScoredPool {
  int64_t rows, n;
  bool is_double, int64_index;
  const void* x;          // [rows, n]
  const void* weight;     // [n]
  const void* score;      // [rows]: s
  const void* cluster;    // [rows]: c; -1: none
  const void* dy;         // [clusters, n]: gradient of y; null: 0
  const void* dscore;     // [rows]: gradient of s; null: 0
  Activation activation;  // not softmax
  bool unit;
  double multiplier;
};

namespace cpu {

// out[rows] = X w + b; b may be null. Of the pool, the rows, the weight and how it is used are read.
void scored_pool_project(const ScoredPool& pool, const void* bias, void* out, const Runtime& runtime);

// y[clusters, n] where clusters are small, as they are tasks of their own. Of the pool, no weight or gradient is read.
void scored_pool_fwd(const ScoredPool& pool, const Members& members, void* y, const Runtime& runtime);

// dx[rows, n], dweight[n] and dbias[1]. The results do not depend on runtime.threads.
void scored_pool_bwd(const ScoredPool& pool, void* dx, void* dweight, void* dbias, const Runtime& runtime);

}  // namespace cpu
}  // namespace hierpool
