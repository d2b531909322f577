// Hashes of numbers, which take the place of random choices.
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

// Of the sum of two results of mix.
inline uint64_t mix_pair(uint64_t sum) {
  sum *= 0xbf58476d1ce4e5b9;
  return sum ^ sum >> 32;
}

}  // namespace hierpool::cpu
