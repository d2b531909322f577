// Transposing 16 x 16 elements of 32 bits in registers of 512 bits.
#pragma once

#include <immintrin.h>

namespace hierpool::cpu {

// Rows a and b, element by element in turn: of each quarter the first (0) or the last (1) two.
template <int high>
static inline __m512d pairs(__m512 a, __m512 b) {
  return _mm512_castps_pd(high ? _mm512_unpackhi_ps(a, b) : _mm512_unpacklo_ps(a, b));
}

// Internal linkage: this header is compiled for several instruction sets, and the linker must not share a copy.
static inline void transpose(__m512 (&rows)[16]) {
  __m512 quads[16];  // quads[4 g + c]: of rows 4 g to 4 g + 3, the columns c, c + 4, c + 8, c + 12
  for (int g = 0; g < 16; g += 4) {
    const __m512d low = pairs<0>(rows[g], rows[g + 1]), high = pairs<1>(rows[g], rows[g + 1]);
    const __m512d low2 = pairs<0>(rows[g + 2], rows[g + 3]), high2 = pairs<1>(rows[g + 2], rows[g + 3]);
    quads[g] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, low2));
    quads[g + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, low2));
    quads[g + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high, high2));
    quads[g + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high, high2));
  }
  for (int c = 0; c < 4; ++c) {
    const __m512 even = _mm512_shuffle_f32x4(quads[c], quads[4 + c], 0x88);
    const __m512 odd = _mm512_shuffle_f32x4(quads[c], quads[4 + c], 0xdd);
    const __m512 even2 = _mm512_shuffle_f32x4(quads[8 + c], quads[12 + c], 0x88);
    const __m512 odd2 = _mm512_shuffle_f32x4(quads[8 + c], quads[12 + c], 0xdd);
    rows[c] = _mm512_shuffle_f32x4(even, even2, 0x88);
    rows[4 + c] = _mm512_shuffle_f32x4(odd, odd2, 0x88);
    rows[8 + c] = _mm512_shuffle_f32x4(even, even2, 0xdd);
    rows[12 + c] = _mm512_shuffle_f32x4(odd, odd2, 0xdd);
  }
}

}  // namespace hierpool::cpu
