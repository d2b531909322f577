// Sorting numbered keys by their digits.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <numeric>
#include <utility>

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

}  // namespace hierpool::cpu
