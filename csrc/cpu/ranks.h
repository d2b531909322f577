// How many of a few integers are smaller than each of them: sorting would mispredict its branches.
#pragma once

#include <cstdint>

namespace hierpool::cpu {

namespace detail {

using Lanes = int32_t __attribute__((vector_size(16)));

// ranks[i]: how many of the keys are smaller than of[i], for the first 4 kVectors of these.
template <int kVectors>
void rank_some(const int32_t* keys, int64_t n, const int32_t* of, int32_t* ranks) {
  Lanes own[kVectors], rank[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    own[v] = reinterpret_cast<const Lanes*>(of)[v];
    rank[v] = Lanes{};
  }
  for (int64_t j = 0; j < n; ++j) {
    const Lanes other = Lanes{} + keys[j];
    for (int v = 0; v < kVectors; ++v) rank[v] -= other < own[v];  // a comparison that holds is -1
  }
  for (int v = 0; v < kVectors; ++v) reinterpret_cast<Lanes*>(ranks)[v] = rank[v];
}

}  // namespace detail

constexpr int64_t kRankPadding = 16;  // elements behind keys and ranks, which are aligned to 16 bytes

// ranks[n]: how many of keys[n] are smaller. In n^2 / 16 steps.
inline void rank_keys(const int32_t* keys, int64_t n, int32_t* ranks) {
  if (n <= 4) return detail::rank_some<1>(keys, n, keys, ranks);
  if (n <= 8) return detail::rank_some<2>(keys, n, keys, ranks);
  for (int64_t i = 0; i < n; i += 16) detail::rank_some<4>(keys, n, keys + i, ranks + i);
}

}  // namespace hierpool::cpu
