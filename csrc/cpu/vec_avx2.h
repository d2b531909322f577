// Vectors of 256 bits. The operations are those of vec_scalar.h.
#pragma once

#include <immintrin.h>

#include <cmath>
#include <cstdint>

#include "cpu/half.h"
#include "cpu/vec_memory.h"

namespace hierpool::cpu::avx2 {

template <typename T>
struct Vec;

// Lane i of a load or store is on where i < count.
alignas(32) static const int32_t kLaneMasks[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};

static inline int64_t clamp_lanes(int64_t count, int64_t lanes) {
  return count < 0 ? 0 : count > lanes ? lanes : count;
}

template <>
struct Vec<float> {
  using Element = float;
  static constexpr int kLanes = 8;
  static constexpr int kTileRows = 4;
  static constexpr int kTileVecs = 3;
  __m256 v;

  static Vec zero() { return {_mm256_setzero_ps()}; }
  static Vec set(float x) { return {_mm256_set1_ps(x)}; }
  static __m256i lanes(int64_t count) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kLaneMasks + 8 - clamp_lanes(count, 8)));
  }
  static Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static Vec load(const float* p, int64_t count) { return {_mm256_maskload_ps(p, lanes(count))}; }
  static Vec load_as(const float* p) { return load(p); }
  static Vec load_as(const double* p) {
    const __m128 low = _mm256_cvtpd_ps(_mm256_loadu_pd(p));
    return {_mm256_insertf128_ps(_mm256_castps128_ps256(low), _mm256_cvtpd_ps(_mm256_loadu_pd(p + 4)), 1)};
  }
  static Vec load_as(const int8_t* p) {
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))))};
  }
  static Vec load_as(const uint8_t* p) {
    return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))))};
  }
  static Vec load_as(const BFloat16* p) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16))};
  }
  static Vec load_as(const Half* p) {
    return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
  }
  void store(float* p) const { _mm256_storeu_ps(p, v); }
  // In pieces of 4, 2 and 1: stores under a mask take tens of cycles on some processors.
  void store(float* p, int64_t count) const {
    if (count >= kLanes) return store(p);
    __m128 rest = _mm256_castps256_ps128(v);
    if (count & 4) {
      _mm_storeu_ps(p, rest);
      rest = _mm256_extractf128_ps(v, 1);
      p += 4;
    }
    if (count & 2) {
      _mm_storel_pi(reinterpret_cast<__m64*>(p), rest);
      rest = _mm_movehl_ps(rest, rest);
      p += 2;
    }
    if (count & 1) _mm_store_ss(p, rest);
  }
  void store_as(float* p) const { store(p); }
  void store_as(double* p) const {
    _mm256_storeu_pd(p, _mm256_cvtps_pd(_mm256_castps256_ps128(v)));
    _mm256_storeu_pd(p + 4, _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1)));
  }
  void store_as(BFloat16* p) const {
    alignas(32) float lanes[kLanes];
    _mm256_store_ps(lanes, v);
    for (int i = 0; i < kLanes; ++i) p[i] = to_bfloat16(lanes[i]);
  }
  void store_as(Half* p) const {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
  }

  friend Vec operator+(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
  friend Vec operator-(Vec a, Vec b) { return {_mm256_sub_ps(a.v, b.v)}; }
  friend Vec operator*(Vec a, Vec b) { return {_mm256_mul_ps(a.v, b.v)}; }
  static Vec divide(Vec a, Vec b) { return {_mm256_div_ps(a.v, b.v)}; }
  static Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
  static Vec max(Vec a, Vec b) { return {_mm256_max_ps(a.v, b.v)}; }
  static Vec select(int64_t count, Vec a, Vec b) {
    return {_mm256_blendv_ps(b.v, a.v, _mm256_castsi256_ps(lanes(count)))};
  }
  static Vec where_positive(Vec test, Vec a, Vec b) {
    return {_mm256_blendv_ps(b.v, a.v, _mm256_cmp_ps(test.v, _mm256_setzero_ps(), _CMP_GT_OQ))};
  }
  static Vec where_above(Vec test, Vec than, Vec a, Vec b) {
    return {_mm256_blendv_ps(b.v, a.v, _mm256_cmp_ps(test.v, than.v, _CMP_GT_OQ))};
  }
  static Vec gather(const float* base, const int32_t* index, int64_t count) {
    const __m256i first = lanes(count), at = _mm256_maskload_epi32(index, first);
    return {_mm256_mask_i32gather_ps(_mm256_setzero_ps(), base, at, _mm256_castsi256_ps(first), 4)};
  }
  static uint32_t find(const int32_t* index, int64_t count, int32_t x) {
    const __m256i first = lanes(count), at = _mm256_maskload_epi32(index, first);
    return bits(_mm256_and_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(at, _mm256_set1_epi32(x))),
                              _mm256_castsi256_ps(first)));
  }
  static uint32_t bits(__m256 mask) { return static_cast<uint32_t>(_mm256_movemask_ps(mask)); }
  uint32_t above(Vec than) const { return bits(_mm256_cmp_ps(v, than.v, _CMP_GT_OQ)); }
  uint32_t equal(Vec other) const { return bits(_mm256_cmp_ps(v, other.v, _CMP_EQ_OQ)); }
  static void transpose(Vec (&block)[kLanes]) {
    __m256 pairs[kLanes], quads[kLanes];
    for (int i = 0; i < kLanes; i += 2) {
      pairs[i] = _mm256_unpacklo_ps(block[i].v, block[i + 1].v);
      pairs[i + 1] = _mm256_unpackhi_ps(block[i].v, block[i + 1].v);
    }
    for (int i = 0; i < kLanes; i += 4) {
      for (int j = 0; j < 2; ++j) {
        quads[i + 2 * j] = _mm256_shuffle_ps(pairs[i + j], pairs[i + j + 2], 0x44);
        quads[i + 2 * j + 1] = _mm256_shuffle_ps(pairs[i + j], pairs[i + j + 2], 0xee);
      }
    }
    for (int i = 0; i < 4; ++i) {
      block[i].v = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x20);
      block[i + 4].v = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x31);
    }
  }
  float sum() const {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
  }
  float largest() const {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
  }
  static Vec sums(const Vec (&block)[kLanes]) {
    return reduced(block, [](__m256 a, __m256 b) { return _mm256_add_ps(a, b); });
  }
  static Vec largests(const Vec (&block)[kLanes]) {
    return reduced(block, [](__m256 a, __m256 b) { return _mm256_max_ps(a, b); });
  }
  // All vectors at once, each step on two of them: half of the instructions of one after the other.
  template <typename Op>
  static Vec reduced(const Vec (&block)[kLanes], const Op& op) {
    __m256 quads[2];  // of four vectors, two parts of each
    for (int g = 0; g < 2; ++g) {
      const Vec* rows = block + 4 * g;
      const auto half = [&](int i) {
        return op(_mm256_unpacklo_ps(rows[i].v, rows[i + 1].v), _mm256_unpackhi_ps(rows[i].v, rows[i + 1].v));
      };
      const __m256d a = _mm256_castps_pd(half(0)), b = _mm256_castps_pd(half(2));
      quads[g] = op(_mm256_castpd_ps(_mm256_unpacklo_pd(a, b)), _mm256_castpd_ps(_mm256_unpackhi_pd(a, b)));
    }
    return {op(_mm256_permute2f128_ps(quads[0], quads[1], 0x20),
               _mm256_permute2f128_ps(quads[0], quads[1], 0x31))};
  }
  uint32_t nonzero() const {
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_NEQ_UQ)));
  }
  static void compress(float* p, Vec a, uint32_t bits) {
    alignas(32) float lanes[kLanes];
    _mm256_store_ps(lanes, a.v);
    for (; bits; bits &= bits - 1) *p++ = lanes[__builtin_ctz(bits)];
  }
  static void compress_index(int32_t* p, int32_t first, uint32_t bits) {
    for (; bits; bits &= bits - 1) *p++ = first + __builtin_ctz(bits);
  }

  // For the polynomials of vec_math.h.
  static Vec round(Vec a) { return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
  static Vec scale(Vec a, Vec exponent) {  // by 2^-126 to 2^127
    return {_mm256_mul_ps(a.v, power(_mm256_cvtps_epi32(exponent.v)))};
  }
  static void split(Vec a, Vec& mantissa, Vec& exponent) {  // mantissa in [0.75, 1.5)
    const __m256 tiny = _mm256_cmp_ps(a.v, _mm256_set1_ps(0x1p-126f), _CMP_LT_OQ);
    const __m256i bits =
        _mm256_castps_si256(_mm256_blendv_ps(a.v, _mm256_mul_ps(a.v, _mm256_set1_ps(0x1p24f)), tiny));
    const __m256i n = _mm256_srai_epi32(_mm256_sub_epi32(bits, _mm256_set1_epi32(0x3f400000)), 23);
    mantissa.v = _mm256_castsi256_ps(_mm256_sub_epi32(bits, _mm256_slli_epi32(n, 23)));
    exponent.v = _mm256_sub_ps(_mm256_cvtepi32_ps(n), _mm256_and_ps(tiny, _mm256_set1_ps(24.0f)));
  }

 private:
  static __m256 power(__m256i n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
  }
};

template <>
struct Vec<double> {
  using Element = double;
  static constexpr int kLanes = 4;
  static constexpr int kTileRows = 4;
  static constexpr int kTileVecs = 3;
  __m256d v;

  static Vec zero() { return {_mm256_setzero_pd()}; }
  static Vec set(double x) { return {_mm256_set1_pd(x)}; }
  static __m256i lanes(int64_t count) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kLaneMasks + 8 - 2 * clamp_lanes(count, 4)));
  }
  static Vec load(const double* p) { return {_mm256_loadu_pd(p)}; }
  static Vec load(const double* p, int64_t count) { return {_mm256_maskload_pd(p, lanes(count))}; }
  static Vec load_as(const double* p) { return load(p); }
  static Vec load_as(const float* p) { return {_mm256_cvtps_pd(_mm_loadu_ps(p))}; }
  template <typename U>
  static Vec load_as(const U* p) {
    alignas(32) double lanes[kLanes];
    for (int i = 0; i < kLanes; ++i) lanes[i] = widen(p[i]);
    return {_mm256_load_pd(lanes)};
  }
  void store(double* p) const { _mm256_storeu_pd(p, v); }
  void store(double* p, int64_t count) const {
    if (count >= kLanes) return store(p);
    __m128d rest = _mm256_castpd256_pd128(v);
    if (count & 2) {
      _mm_storeu_pd(p, rest);
      rest = _mm256_extractf128_pd(v, 1);
      p += 2;
    }
    if (count & 1) _mm_store_sd(p, rest);
  }
  void store_as(double* p) const { store(p); }
  void store_as(float* p) const { _mm_storeu_ps(p, _mm256_cvtpd_ps(v)); }
  template <typename U>
  void store_as(U* p) const {
    alignas(32) double lanes[kLanes];
    _mm256_store_pd(lanes, v);
    for (int i = 0; i < kLanes; ++i) narrow(p[i], lanes[i]);
  }

  friend Vec operator+(Vec a, Vec b) { return {_mm256_add_pd(a.v, b.v)}; }
  friend Vec operator-(Vec a, Vec b) { return {_mm256_sub_pd(a.v, b.v)}; }
  friend Vec operator*(Vec a, Vec b) { return {_mm256_mul_pd(a.v, b.v)}; }
  static Vec divide(Vec a, Vec b) { return {_mm256_div_pd(a.v, b.v)}; }
  static Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_pd(a.v, b.v, c.v)}; }
  static Vec max(Vec a, Vec b) { return {_mm256_max_pd(a.v, b.v)}; }
  friend Vec exp(Vec a) { return map(a, ::exp); }
  friend Vec expm1(Vec a) { return map(a, ::expm1); }
  friend Vec log(Vec a) { return map(a, ::log); }
  static Vec select(int64_t count, Vec a, Vec b) {
    return {_mm256_blendv_pd(b.v, a.v, _mm256_castsi256_pd(lanes(count)))};
  }
  static Vec where_positive(Vec test, Vec a, Vec b) {
    return {_mm256_blendv_pd(b.v, a.v, _mm256_cmp_pd(test.v, _mm256_setzero_pd(), _CMP_GT_OQ))};
  }
  static Vec where_above(Vec test, Vec than, Vec a, Vec b) {
    return {_mm256_blendv_pd(b.v, a.v, _mm256_cmp_pd(test.v, than.v, _CMP_GT_OQ))};
  }
  static Vec gather(const double* base, const int32_t* index, int64_t count) {
    const __m128i at = _mm_maskload_epi32(index, narrow_lanes(count));
    return {_mm256_mask_i32gather_pd(_mm256_setzero_pd(), base, at, _mm256_castsi256_pd(lanes(count)), 8)};
  }
  static uint32_t find(const int32_t* index, int64_t count, int32_t x) {
    const __m128i first = narrow_lanes(count), at = _mm_maskload_epi32(index, first);
    const __m128i found = _mm_and_si128(_mm_cmpeq_epi32(at, _mm_set1_epi32(x)), first);
    return static_cast<uint32_t>(_mm_movemask_ps(_mm_castsi128_ps(found)));
  }
  static __m128i narrow_lanes(int64_t count) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(kLaneMasks + 8 - clamp_lanes(count, 4)));
  }
  static uint32_t bits(__m256d mask) { return static_cast<uint32_t>(_mm256_movemask_pd(mask)); }
  uint32_t above(Vec than) const { return bits(_mm256_cmp_pd(v, than.v, _CMP_GT_OQ)); }
  uint32_t equal(Vec other) const { return bits(_mm256_cmp_pd(v, other.v, _CMP_EQ_OQ)); }
  static void transpose(Vec (&block)[kLanes]) {
    for (int i = 0; i < kLanes; i += 2) {
      const __m256d low = _mm256_unpacklo_pd(block[i].v, block[i + 1].v);
      block[i + 1].v = _mm256_unpackhi_pd(block[i].v, block[i + 1].v);
      block[i].v = low;
    }
    for (int i = 0; i < 2; ++i) {
      const __m256d low = _mm256_permute2f128_pd(block[i].v, block[i + 2].v, 0x20);
      block[i + 2].v = _mm256_permute2f128_pd(block[i].v, block[i + 2].v, 0x31);
      block[i].v = low;
    }
  }
  double sum() const {
    const __m128d s = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
    return _mm_cvtsd_f64(_mm_add_sd(s, _mm_unpackhi_pd(s, s)));
  }
  double largest() const {
    const __m128d s = _mm_max_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
    return _mm_cvtsd_f64(_mm_max_sd(s, _mm_unpackhi_pd(s, s)));
  }
  static Vec sums(const Vec (&block)[kLanes]) {
    return reduced_in_memory(block, [](Vec a) { return a.sum(); });
  }
  static Vec largests(const Vec (&block)[kLanes]) {
    return reduced_in_memory(block, [](Vec a) { return a.largest(); });
  }
  uint32_t nonzero() const {
    return static_cast<uint32_t>(_mm256_movemask_pd(_mm256_cmp_pd(v, _mm256_setzero_pd(), _CMP_NEQ_UQ)));
  }
  static void compress(double* p, Vec a, uint32_t bits) {
    alignas(32) double lanes[kLanes];
    _mm256_store_pd(lanes, a.v);
    for (; bits; bits &= bits - 1) *p++ = lanes[__builtin_ctz(bits)];
  }
  static void compress_index(int32_t* p, int32_t first, uint32_t bits) {
    for (; bits; bits &= bits - 1) *p++ = first + __builtin_ctz(bits);
  }

 private:
  // float64 is asked for its accuracy: libm, lane by lane.
  static Vec map(Vec a, double (*f)(double)) {
    alignas(32) double lanes[kLanes];
    _mm256_store_pd(lanes, a.v);
    for (double& lane : lanes) lane = f(lane);
    return {_mm256_load_pd(lanes)};
  }
};

}  // namespace hierpool::cpu::avx2
