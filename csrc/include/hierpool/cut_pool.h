// Contract of the last step of MinCut and DMoN pooling on the CPU: the losses and the normalised adjacency, from the
// sums of soft pooling. T is double if `is_double`, else float.
#pragma once

#include <cstdint>

#include "hierpool/runtime.h"

namespace hierpool {

enum class CutKind : int32_t {
  mincut,        // losses: normalised cut, orthogonality
  dmon,          // losses: spectral, orthogonality, cluster
  dmon_crossed,  // ... the cluster loss compares every graph's clusters with every graph's size
};

struct CutPool {
  int64_t graphs, k;
  bool is_double;
  CutKind kind;
  const int64_t* num_clusters = nullptr;  // [B]: clusters of each graph, its first rows and columns; null: k

  int64_t clusters(int64_t b) const { return num_clusters ? num_clusters[b] : k; }
};

// Sums of soft pooling, of one edge type. T.
struct CutSums {
  const void* adj;      // [B, K, K]
  const void* gram;     // [B, K, K]
  const void* vectors;  // [B, 2, K]: sizes, volumes; not read for mincut
  const void* scalars;  // [B, 6]: number of nodes, entropy, cut degree, |A|^2, total degree, link
};

namespace cpu {

// Values that are saved for a graph, besides the K scales of its rows.
inline constexpr int64_t kCutSaved = 3;

// out[B, K, K] is adj without its diagonal, normalised by degrees. losses are the addresses of three losses; the third
// is 0 for mincut. saved[B, K + kCutSaved] is of T.
void cut_pool_fwd(const CutPool& shape, const CutSums& sums, void* out, void* const* losses, void* saved,
                  const Runtime& runtime);

// From dout[B, K, K], null for zeros, and the gradients of the losses: dadj[B, K, K], dgram[B, K, K] (null if not
// needed), dvectors[B, 2, K] (null for mincut) and dscalars[B, 6]; not written beyond the clusters of a graph.
void cut_pool_bwd(const CutPool& shape, const CutSums& sums, const void* out, const void* saved,
                  const void* dout, const double* dlosses, void* dadj, void* dgram, void* dvectors,
                  void* dscalars, const Runtime& runtime);

}  // namespace cpu
}  // namespace hierpool
