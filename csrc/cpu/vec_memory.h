// Steps of vectors that have no instruction, by way of memory.
#pragma once

namespace hierpool::cpu {

template <typename V, int n>
static inline void transpose_in_memory(V (&block)[n]) {
  typename V::Element lanes[n][n], transposed[n][n];
  for (int i = 0; i < n; ++i) block[i].store(lanes[i]);
  for (int i = 0; i < n; ++i) {
    for (int j = 0; j < n; ++j) transposed[j][i] = lanes[i][j];
  }
  for (int i = 0; i < n; ++i) block[i] = V::load(transposed[i]);
}

// A number of each vector, lane by lane.
template <typename V, int n, typename Reduce>
static inline V reduced_in_memory(const V (&block)[n], const Reduce& reduce) {
  typename V::Element lanes[n];
  for (int i = 0; i < n; ++i) lanes[i] = reduce(block[i]);
  return V::load(lanes);
}

}  // namespace hierpool::cpu
