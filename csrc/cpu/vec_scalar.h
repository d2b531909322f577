// One-element vectors: the path of every processor, and the shape that vec_avx2.h and vec_avx512.h follow.
#pragma once

#include <cmath>
#include <cstdint>

#include "cpu/half.h"

namespace hierpool::cpu::scalar {

template <typename T>
struct Vec {
  using Element = T;
  static constexpr int kLanes = 1;
  static constexpr int kTileRows = 4;  // register tile of the matrix product, in rows ...
  static constexpr int kTileVecs = 4;  // ... and vectors
  T v;

  static Vec zero() { return {T(0)}; }
  static Vec set(T x) { return {x}; }
  static Vec load(const T* p) { return {*p}; }
  static Vec load(const T* p, int64_t count) { return {count > 0 ? *p : T(0)}; }
  template <typename U>
  static Vec load_as(const U* p) {
    return {static_cast<T>(widen(*p))};
  }
  void store(T* p) const { *p = v; }
  void store(T* p, int64_t count) const {
    if (count > 0) *p = v;
  }
  template <typename U>
  void store_as(U* p) const {
    narrow(*p, v);
  }

  friend Vec operator+(Vec a, Vec b) { return {a.v + b.v}; }
  friend Vec operator-(Vec a, Vec b) { return {a.v - b.v}; }
  friend Vec operator*(Vec a, Vec b) { return {a.v * b.v}; }
  static Vec divide(Vec a, Vec b) { return {a.v / b.v}; }
  static Vec fma(Vec a, Vec b, Vec c) { return {a.v * b.v + c.v}; }
  static Vec max(Vec a, Vec b) { return {a.v > b.v ? a.v : b.v}; }  // b where either is NaN
  friend Vec exp(Vec a) { return {std::exp(a.v)}; }
  friend Vec expm1(Vec a) { return {std::expm1(a.v)}; }
  friend Vec log(Vec a) { return {std::log(a.v)}; }
  static Vec select(int64_t count, Vec a, Vec b) { return count > 0 ? a : b; }  // a in the first lanes
  static Vec where_positive(Vec test, Vec a, Vec b) { return test.v > T(0) ? a : b; }
  // a where test > than, else b
  static Vec where_above(Vec test, Vec than, Vec a, Vec b) { return test.v > than.v ? a : b; }
  // base[index[i]] in the first lanes, 0 in the others. As base may change meanwhile, each is read once.
  static Vec gather(const T* base, const int32_t* index, int64_t count) {
    return {count > 0 ? *static_cast<const volatile T*>(base + *index) : T(0)};
  }
  // One bit for each of the first lanes of index that is x.
  static uint32_t find(const int32_t* index, int64_t count, int32_t x) {
    return count > 0 && *index == x ? 1u : 0u;
  }
  // One bit per lane.
  uint32_t above(Vec than) const { return v > than.v ? 1u : 0u; }
  uint32_t equal(Vec other) const { return v == other.v ? 1u : 0u; }
  static void transpose(Vec (&)[kLanes]) {}  // of a square block, one vector a row
  T sum() const { return v; }
  T largest() const { return v; }
  static Vec sums(const Vec (&block)[kLanes]) {
    return block[0];
  }  // of the lanes of each vector, lane by lane
  static Vec largests(const Vec (&block)[kLanes]) { return block[0]; }
  // One bit per lane that is not zero (NaN is not).
  uint32_t nonzero() const { return v != T(0) ? 1u : 0u; }
  // Writes the lanes of `bits` to p in order; may write kLanes elements.
  static void compress(T* p, Vec a, uint32_t) { *p = a.v; }
  static void compress_index(int32_t* p, int32_t first, uint32_t) { *p = first; }
};

}  // namespace hierpool::cpu::scalar
