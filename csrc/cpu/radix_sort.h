// Sorting numbered keys by their digits.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <numeric>
#include <utility>
#include <vector>

#include "cpu/buffer.h"

namespace hierpool::cpu {

template <typename Key>
struct Item {
  Key key;
  int64_t row;
};

// Stable, least significant digits first.
template <typename Key>
void radix_sort(Item<Key>* items, int64_t n) {
  constexpr int kBits = 11;
  const Buffer<Item<Key>> scratch(n);
  Item<Key>*from = items, *to = scratch.data();
  int64_t start[1 << kBits];
  for (int shift = 0; shift < static_cast<int>(8 * sizeof(Key)); shift += kBits) {
    const auto digit = [&](const Item<Key>& item) { return item.key >> shift & ((1 << kBits) - 1); };
    std::fill(std::begin(start), std::end(start), 0);
    for (int64_t i = 0; i < n; ++i) ++start[digit(from[i])];
    if (start[digit(from[0])] == n) continue;  // all digits are equal
    std::exclusive_scan(std::begin(start), std::end(start), std::begin(start), int64_t{0});
    for (int64_t i = 0; i < n; ++i) to[start[digit(from[i])]++] = from[i];
    std::swap(from, to);
  }
  if (from != items) std::copy_n(from, n, items);
}

// Stable, by the `bits` bits from bit 32 on; those above them are equal. `scratch` has n numbers, too. Returns where the sorted
// numbers are.
inline uint64_t* radix_sort_by_upper_half(uint64_t* numbers, uint64_t* scratch, int64_t n, int bits) {
  // A cache holds the last lines of so many ranges; with more of them a few numbers are sorted in fewer passes.
  constexpr int kMost = 14, kFew = 1 << 18, kBits = 11;
  const int passes = (bits + (n <= kFew ? kMost : kBits) - 1) / (n <= kFew ? kMost : kBits);
  if (passes == 0) return numbers;
  const int width = (bits + passes - 1) / passes;
  std::vector<uint32_t> start(size_t{1} << width);
  const uint64_t mask = start.size() - 1;
  for (int shift = 32; shift < 32 + bits; shift += width) {
    std::fill(start.begin(), start.end(), 0u);
    for (int64_t i = 0; i < n; ++i) ++start[numbers[i] >> shift & mask];
    std::exclusive_scan(start.begin(), start.end(), start.begin(), 0u);
    for (int64_t i = 0; i < n; ++i) scratch[start[numbers[i] >> shift & mask]++] = numbers[i];
    std::swap(numbers, scratch);
  }
  return numbers;
}

}  // namespace hierpool::cpu
