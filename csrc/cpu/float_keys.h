// Integers in the order of floats, and the selection of one of them by its rank.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace hierpool::cpu {

template <typename T>
struct KeyOf;
template <>
struct KeyOf<float> {
  using Signed = int32_t;
  using Unsigned = uint32_t;
};
template <>
struct KeyOf<double> {
  using Signed = int64_t;
  using Unsigned = uint64_t;
};

// Keys of T: two's complement in place of sign and magnitude, so that -0 is 0, with the sign bit inverted so that they are
// ordered without one. All NaN are the largest.
template <typename T>
struct FloatKeys {
  using Signed = typename KeyOf<T>::Signed;
  using Key = typename KeyOf<T>::Unsigned;
  static constexpr int kBits = 8 * sizeof(T);
  static constexpr Key kSign = Key{1} << (kBits - 1);

  static Key key(T x) {
    Key bits;
    std::memcpy(&bits, &x, sizeof bits);
    const Key negative = static_cast<Key>(static_cast<Signed>(bits) >> (kBits - 1));  // all bits, or none
    const Key ordered = ((bits & ~kSign) ^ negative) - negative;
    return (x != x ? ~kSign : ordered) ^ kSign;
  }

  static T value(Key key) {
    const auto ordered = static_cast<Signed>(key ^ kSign);
    const Key bits = ordered < 0 ? kSign | (Key{0} - static_cast<Key>(ordered)) : static_cast<Key>(ordered);
    T x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
  }
};

// The largest key but `rank`; reorders keys[n].
template <typename Key>
Key select_largest(Key* keys, int64_t n, int64_t rank) {
  Key* at = keys + (n - 1 - rank);
  std::nth_element(keys, at, keys + n);
  return *at;
}

}  // namespace hierpool::cpu
