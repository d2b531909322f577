// Contract of the gradients of rows pooled by a score that is a function of their projection, on the CPU.
#pragma once

#include <cstdint>

#include "hierpool/runtime.h"

namespace hierpool {

// y_k = multiplier sum_{c_i = k} s_i x_i with s = activation(X w + b), w divided by its norm if `unit`. T is double where
// `is_double`, else float; I is int64_t where `int64_index`, else int32_t.
struct ScoredPool {
  int64_t rows, n;
  bool is_double, int64_index;
  const void* x;        // [rows, n]
  const void* weight;   // [n]
  const void* score;    // [rows]: s
  const void* cluster;  // [rows]: c; -1: none
  const void* dy;       // [clusters, n]: gradient of y; null: 0
  const void* dscore;   // [rows]: gradient of s; null: 0
  bool tanh;            // the activation; else the logistic function
  bool unit;
  double multiplier;
};

namespace cpu {

// dx[rows, n], dweight[n] and dbias[1]. The results do not depend on runtime.threads.
void scored_pool_bwd(const ScoredPool& pool, void* dx, void* dweight, void* dbias, const Runtime& runtime);

}  // namespace cpu
}  // namespace hierpool
