// The places of a few scores in descending order.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "cpu/float_keys.h"
#include "cpu/ranks.h"

namespace hierpool::cpu {

class DescendingRanks {
 public:
  // Whether n scores are few. Keys of double do not fit.
  template <typename T>
  static constexpr bool take(int64_t n) {
    return std::is_same_v<T, float> && n <= kMost;
  }

  // Calls use(i, rank) for every score, i ascending: equal ones in the order of i, and -0 like 0.
  template <typename T, typename Use>
  void find(const T* score, int64_t n, const Use& use) {
    rank(score, n);
    std::fill_n(seen_, n, uint8_t{0});
    for (int64_t i = 0; i < n; ++i) use(i, ranks_[i] + seen_[ranks_[i]]++);
  }

 private:
  static constexpr int64_t kMost = 128;

  template <typename T>
  void rank(const T* score, int64_t n) {
    constexpr uint32_t kSign = FloatKeys<float>::kSign;
    for (int64_t i = 0; i < n; ++i)
      keys_[i] = static_cast<int32_t>(~FloatKeys<float>::key(static_cast<float>(score[i])) ^ kSign);
    rank_keys(keys_, n, ranks_);
  }

  alignas(16) int32_t keys_[kMost + kRankPadding], ranks_[kMost + kRankPadding];
  uint8_t seen_[kMost];
};

}  // namespace hierpool::cpu
