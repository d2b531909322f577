// The hash of a node by its index in its graph, in which ties are broken.
#pragma once

#include <cstdint>

namespace hierpool::cpu {

// SplitMix64.
inline uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}

// Of the node with this index in its graph; salt is mix(seed).
inline uint64_t node_hash(uint64_t salt, int64_t index) { return mix(salt ^ static_cast<uint64_t>(index)); }

}  // namespace hierpool::cpu
