// 16-bit floats as bits, with conversions that round to nearest even.
#pragma once

#include <cstdint>
#include <cstring>

namespace hierpool::cpu {

struct BFloat16 {
  uint16_t bits;
};
struct Half {
  uint16_t bits;
};

// Internal linkage: this header is compiled for several instruction sets, and the linker must not share a copy.
static inline float float_from_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

static inline uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

static inline float to_float(BFloat16 h) { return float_from_bits(uint32_t{h.bits} << 16); }

static inline BFloat16 to_bfloat16(float value) {
  const uint32_t bits = bits_of(value);
  if (value != value) return {0x7fc0};
  return {static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}

static inline float to_float(Half h) {
  const uint32_t sign = uint32_t{h.bits & 0x8000u} << 16;
  const uint32_t magnitude = h.bits & 0x7fffu;
  if (magnitude >= 0x7c00) return float_from_bits(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  if (magnitude >= 0x0400) return float_from_bits(sign | ((magnitude << 13) + 0x38000000u));
  const float subnormal = static_cast<float>(magnitude) * 0x1p-24f;
  return sign ? -subnormal : subnormal;
}

static inline Half to_half(float value) {
  const uint32_t bits = bits_of(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<uint16_t>(sign | 0x7e00u)};
  if (magnitude >= 0x477ff000u) return {static_cast<uint16_t>(sign | 0x7c00u)};  // 65520 and above: infinity
  if (magnitude < 0x38800000u) {  // below 2^-14: the addition rounds to a multiple of 2^-24
    const float scaled = float_from_bits(magnitude) + 0.5f;
    return {static_cast<uint16_t>(sign | (bits_of(scaled) - bits_of(0.5f)))};
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1);
  return {static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13))};
}

static inline double widen(double value) { return value; }
static inline double widen(float value) { return value; }
static inline double widen(int8_t value) { return value; }
static inline double widen(uint8_t value) { return value; }
static inline double widen(BFloat16 value) { return to_float(value); }
static inline double widen(Half value) { return to_float(value); }

static inline void narrow(double& target, double value) { target = value; }
static inline void narrow(float& target, double value) { target = static_cast<float>(value); }
static inline void narrow(BFloat16& target, double value) { target = to_bfloat16(static_cast<float>(value)); }
static inline void narrow(Half& target, double value) { target = to_half(static_cast<float>(value)); }

}  // namespace hierpool::cpu
