// Vectors of 512 bits. The operations are those of vec_scalar.h.
#pragma once

#include <immintrin.h>

#include <cmath>
#include <cstdint>

#include "cpu/half.h"
#include "cpu/transpose_avx512.h"
#include "cpu/vec_memory.h"

namespace hierpool::cpu::avx512 {

template <typename T>
struct Vec;

// The first half of the lanes: its operations take half the time on processors that split those of 512 bits.
template <typename T>
struct LowVec;

template <>
struct LowVec<float> {
  static constexpr int kLanes = 8;
  __m256 v;

  static __mmask8 lanes(int64_t count) { return static_cast<__mmask8>((1u << count) - 1); }
  static LowVec zero() { return {_mm256_setzero_ps()}; }
  static LowVec load(const float* p, int64_t count) { return {_mm256_maskz_loadu_ps(lanes(count), p)}; }
  void store(float* p, int64_t count) const { _mm256_mask_storeu_ps(p, lanes(count), v); }
  friend LowVec operator+(LowVec a, LowVec b) { return {_mm256_add_ps(a.v, b.v)}; }
  static LowVec fma(LowVec a, LowVec b, LowVec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
};

template <>
struct LowVec<double> {
  static constexpr int kLanes = 4;
  __m256d v;

  static __mmask8 lanes(int64_t count) { return static_cast<__mmask8>((1u << count) - 1); }
  static LowVec zero() { return {_mm256_setzero_pd()}; }
  static LowVec load(const double* p, int64_t count) { return {_mm256_maskz_loadu_pd(lanes(count), p)}; }
  void store(double* p, int64_t count) const { _mm256_mask_storeu_pd(p, lanes(count), v); }
  friend LowVec operator+(LowVec a, LowVec b) { return {_mm256_add_pd(a.v, b.v)}; }
  static LowVec fma(LowVec a, LowVec b, LowVec c) { return {_mm256_fmadd_pd(a.v, b.v, c.v)}; }
};

template <>
struct Vec<float> {
  using Element = float;
  using Low = LowVec<float>;
  static constexpr int kLanes = 16;
  static constexpr int kTileRows = 8;
  static constexpr int kTileVecs = 3;
  __m512 v;

  static Vec zero() { return {_mm512_setzero_ps()}; }
  static Vec set(float x) { return {_mm512_set1_ps(x)}; }
  static __mmask16 lanes(int64_t count) {
    return count >= 16 ? __mmask16(0xffff) : static_cast<__mmask16>((1u << (count > 0 ? count : 0)) - 1);
  }
  static Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Vec load(const float* p, int64_t count) { return {_mm512_maskz_loadu_ps(lanes(count), p)}; }
  static Vec load_as(const float* p) { return load(p); }
  static Vec load_as(const double* p) {
    const __m256 low = _mm512_cvtpd_ps(_mm512_loadu_pd(p));
    const __m256 high = _mm512_cvtpd_ps(_mm512_loadu_pd(p + 8));
    return {_mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1)};
  }
  static Vec load_as(const int8_t* p) {
    return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
  }
  static Vec load_as(const uint8_t* p) {
    return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
  }
  static Vec load_as(const BFloat16* p, int64_t count = kLanes) {
    const __m256i bits = _mm256_maskz_loadu_epi16(lanes(count), p);
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
  }
  static Vec load_as(const Half* p, int64_t count = kLanes) {
    return {_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes(count), p))};
  }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  void store(float* p, int64_t count) const { _mm512_mask_storeu_ps(p, lanes(count), v); }
  void store_as(float* p) const { store(p); }
  void store_as(double* p) const {
    _mm512_storeu_pd(p, _mm512_cvtps_pd(_mm512_castps512_ps256(v)));
    _mm512_storeu_pd(p + 8, _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1)));
  }
  void store_as(BFloat16* p, int64_t count = kLanes) const {
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    rounded =
        _mm512_mask_mov_epi32(rounded, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), _mm512_set1_epi32(0x7fc00000));
    _mm256_mask_storeu_epi16(p, lanes(count), _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
  }
  void store_as(Half* p, int64_t count = kLanes) const {
    _mm256_mask_storeu_epi16(p, lanes(count), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
  }

  friend Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
  friend Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
  friend Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
  static Vec divide(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
  static Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
  static Vec max(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
  static Vec select(int64_t count, Vec a, Vec b) { return {_mm512_mask_mov_ps(b.v, lanes(count), a.v)}; }
  static Vec where_positive(Vec test, Vec a, Vec b) {
    return {_mm512_mask_mov_ps(b.v, _mm512_cmp_ps_mask(test.v, _mm512_setzero_ps(), _CMP_GT_OQ), a.v)};
  }
  static Vec where_above(Vec test, Vec than, Vec a, Vec b) {
    return {_mm512_mask_mov_ps(b.v, _mm512_cmp_ps_mask(test.v, than.v, _CMP_GT_OQ), a.v)};
  }
  static Vec gather(const float* base, const int32_t* index, int64_t count) {
    const __mmask16 first = lanes(count);
    const __m512i at = _mm512_maskz_loadu_epi32(first, index);
    return {_mm512_mask_i32gather_ps(_mm512_setzero_ps(), first, at, base, 4)};
  }
  static uint32_t find(const int32_t* index, int64_t count, int32_t x) {
    const __mmask16 first = lanes(count);
    return _mm512_mask_cmpeq_epi32_mask(first, _mm512_maskz_loadu_epi32(first, index), _mm512_set1_epi32(x));
  }
  uint32_t above(Vec than) const { return _mm512_cmp_ps_mask(v, than.v, _CMP_GT_OQ); }
  uint32_t equal(Vec other) const { return _mm512_cmp_ps_mask(v, other.v, _CMP_EQ_OQ); }
  static void transpose(Vec (&block)[kLanes]) {
    __m512 rows[kLanes];
    for (int r = 0; r < kLanes; ++r) rows[r] = block[r].v;
    cpu::transpose(rows);
    for (int r = 0; r < kLanes; ++r) block[r].v = rows[r];
  }
  Low low() const { return {_mm512_castps512_ps256(v)}; }
  float sum() const { return _mm512_reduce_add_ps(v); }
  float largest() const { return _mm512_reduce_max_ps(v); }
  static Vec sums(const Vec (&block)[kLanes]) {
    return reduced(block, [](__m512 a, __m512 b) { return _mm512_add_ps(a, b); });
  }
  static Vec largests(const Vec (&block)[kLanes]) {
    return reduced(block, [](__m512 a, __m512 b) { return _mm512_max_ps(a, b); });
  }
  // All vectors at once, each step on two of them: a third of the instructions of one after the other.
  template <typename Op>
  static Vec reduced(const Vec (&block)[kLanes], const Op& op) {
    __m512 quads[4];  // of four vectors, four parts of each
    for (int g = 0; g < 4; ++g) {
      const Vec* rows = block + 4 * g;
      const auto half = [&](int i) {
        return op(_mm512_unpacklo_ps(rows[i].v, rows[i + 1].v), _mm512_unpackhi_ps(rows[i].v, rows[i + 1].v));
      };
      const __m512d a = _mm512_castps_pd(half(0)), b = _mm512_castps_pd(half(2));
      quads[g] = op(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
    }
    const auto joined = [&](__m512 a, __m512 b) {
      return op(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
    };
    return {joined(joined(quads[0], quads[1]), joined(quads[2], quads[3]))};
  }
  uint32_t nonzero() const { return _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_NEQ_UQ); }
  // A full store of the compressed register: a compressing store to memory is an order of magnitude slower.
  static void compress(float* p, Vec a, uint32_t bits) {
    _mm512_storeu_ps(p, _mm512_maskz_compress_ps(static_cast<__mmask16>(bits), a.v));
  }
  static void compress_index(int32_t* p, int32_t first, uint32_t bits) {
    const __m512i iota = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i index = _mm512_add_epi32(_mm512_set1_epi32(first), iota);
    _mm512_storeu_si512(p, _mm512_maskz_compress_epi32(static_cast<__mmask16>(bits), index));
  }

  // For the polynomials of vec_math.h.
  static Vec round(Vec a) {
    return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
  }
  static Vec scale(Vec a, Vec exponent) { return {_mm512_scalef_ps(a.v, exponent.v)}; }
  static void split(Vec a, Vec& mantissa, Vec& exponent) {  // mantissa in [0.75, 1.5)
    mantissa.v = _mm512_getmant_ps(a.v, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_src);
    const __m512 n = _mm512_getexp_ps(a.v), one = _mm512_set1_ps(1.0f);
    exponent.v = _mm512_mask_add_ps(n, _mm512_cmp_ps_mask(mantissa.v, one, _CMP_LT_OQ), n, one);
  }
};

template <>
struct Vec<double> {
  using Element = double;
  using Low = LowVec<double>;
  static constexpr int kLanes = 8;
  static constexpr int kTileRows = 8;
  static constexpr int kTileVecs = 3;
  __m512d v;

  static Vec zero() { return {_mm512_setzero_pd()}; }
  static Vec set(double x) { return {_mm512_set1_pd(x)}; }
  static __mmask8 lanes(int64_t count) {
    return count >= 8 ? __mmask8(0xff) : static_cast<__mmask8>((1u << (count > 0 ? count : 0)) - 1);
  }
  static Vec load(const double* p) { return {_mm512_loadu_pd(p)}; }
  static Vec load(const double* p, int64_t count) { return {_mm512_maskz_loadu_pd(lanes(count), p)}; }
  static Vec load_as(const double* p) { return load(p); }
  static Vec load_as(const float* p) { return {_mm512_cvtps_pd(_mm256_loadu_ps(p))}; }
  template <typename U>
  static Vec load_as(const U* p) {
    alignas(64) double lanes[kLanes];
    for (int i = 0; i < kLanes; ++i) lanes[i] = widen(p[i]);
    return {_mm512_load_pd(lanes)};
  }
  void store(double* p) const { _mm512_storeu_pd(p, v); }
  void store(double* p, int64_t count) const { _mm512_mask_storeu_pd(p, lanes(count), v); }
  void store_as(double* p) const { store(p); }
  void store_as(float* p) const { _mm256_storeu_ps(p, _mm512_cvtpd_ps(v)); }
  template <typename U>
  void store_as(U* p) const {
    alignas(64) double lanes[kLanes];
    _mm512_store_pd(lanes, v);
    for (int i = 0; i < kLanes; ++i) narrow(p[i], lanes[i]);
  }

  friend Vec operator+(Vec a, Vec b) { return {_mm512_add_pd(a.v, b.v)}; }
  friend Vec operator-(Vec a, Vec b) { return {_mm512_sub_pd(a.v, b.v)}; }
  friend Vec operator*(Vec a, Vec b) { return {_mm512_mul_pd(a.v, b.v)}; }
  static Vec divide(Vec a, Vec b) { return {_mm512_div_pd(a.v, b.v)}; }
  static Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_pd(a.v, b.v, c.v)}; }
  static Vec max(Vec a, Vec b) { return {_mm512_max_pd(a.v, b.v)}; }
  friend Vec exp(Vec a) { return map(a, ::exp); }
  friend Vec expm1(Vec a) { return map(a, ::expm1); }
  friend Vec log(Vec a) { return map(a, ::log); }
  static Vec select(int64_t count, Vec a, Vec b) { return {_mm512_mask_mov_pd(b.v, lanes(count), a.v)}; }
  static Vec where_positive(Vec test, Vec a, Vec b) {
    return {_mm512_mask_mov_pd(b.v, _mm512_cmp_pd_mask(test.v, _mm512_setzero_pd(), _CMP_GT_OQ), a.v)};
  }
  static Vec where_above(Vec test, Vec than, Vec a, Vec b) {
    return {_mm512_mask_mov_pd(b.v, _mm512_cmp_pd_mask(test.v, than.v, _CMP_GT_OQ), a.v)};
  }
  static Vec gather(const double* base, const int32_t* index, int64_t count) {
    const __mmask8 first = lanes(count);
    const __m256i at = _mm256_maskz_loadu_epi32(first, index);
    return {_mm512_mask_i32gather_pd(_mm512_setzero_pd(), first, at, base, 8)};
  }
  static uint32_t find(const int32_t* index, int64_t count, int32_t x) {
    const __mmask8 first = lanes(count);
    return _mm256_mask_cmpeq_epi32_mask(first, _mm256_maskz_loadu_epi32(first, index), _mm256_set1_epi32(x));
  }
  uint32_t above(Vec than) const { return _mm512_cmp_pd_mask(v, than.v, _CMP_GT_OQ); }
  uint32_t equal(Vec other) const { return _mm512_cmp_pd_mask(v, other.v, _CMP_EQ_OQ); }
  static void transpose(Vec (&block)[kLanes]) { transpose_in_memory(block); }
  Low low() const { return {_mm512_castpd512_pd256(v)}; }
  double sum() const { return _mm512_reduce_add_pd(v); }
  double largest() const { return _mm512_reduce_max_pd(v); }
  static Vec sums(const Vec (&block)[kLanes]) {
    return reduced_in_memory(block, [](Vec a) { return a.sum(); });
  }
  static Vec largests(const Vec (&block)[kLanes]) {
    return reduced_in_memory(block, [](Vec a) { return a.largest(); });
  }
  uint32_t nonzero() const { return _mm512_cmp_pd_mask(v, _mm512_setzero_pd(), _CMP_NEQ_UQ); }
  static void compress(double* p, Vec a, uint32_t bits) {
    _mm512_storeu_pd(p, _mm512_maskz_compress_pd(static_cast<__mmask8>(bits), a.v));
  }
  static void compress_index(int32_t* p, int32_t first, uint32_t bits) {
    const __m256i index =
        _mm256_add_epi32(_mm256_set1_epi32(first), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm256_maskz_compress_epi32(static_cast<__mmask8>(bits), index));
  }

 private:
  // float64 is asked for its accuracy: libm, lane by lane.
  static Vec map(Vec a, double (*f)(double)) {
    alignas(64) double lanes[kLanes];
    _mm512_store_pd(lanes, a.v);
    for (double& lane : lanes) lane = f(lane);
    return {_mm512_load_pd(lanes)};
  }
};

}  // namespace hierpool::cpu::avx512
