// Products of split matrices by the tile registers of AMX. Parts of the inner dimensions are taken together: their rows of
// B are packed once, as pairs; then 32 rows of A at a time are packed, and meet all columns.
#include <immintrin.h>

#include "cpu/split_gemm.h"
#include "cpu/transpose_avx512.h"

namespace hierpool::cpu::amx {
namespace {

constexpr int64_t kTile = 16;      // rows of a tile, and columns of one of C
constexpr int64_t kDepth = 32;     // brain floats in a row of a tile of A
constexpr int64_t kRows = 32;      // of A that are packed together
constexpr int64_t kColumns = 256;  // of B that are
constexpr int64_t kTilesOfA = 16;  // in a row of packed A: it stays in the nearest cache
constexpr int64_t kTilesOfB = 24;  // in a column of packed B
constexpr int64_t kRowStride = (kTilesOfA + 1) * kDepth;  // rows a power of two apart share few cache lines
constexpr int64_t kTileElements = kTile * kDepth;
constexpr int kMostTerms = 2;
constexpr int64_t kMostParts = kTilesOfA;

// The packed blocks of a thread: A by rows, B by tiles, in columns of them.
struct Packed {
  alignas(64) uint16_t a[kRows * kRowStride];
  alignas(64) uint16_t b[kTilesOfB * kTileElements * kColumns / kTile];
};
thread_local Packed packed;

// Not a template of the standard library: the linker keeps one copy of those.
int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t tiles_of(int64_t size, int64_t tile) { return (size + tile - 1) / tile; }

__mmask16 first_lanes(int64_t count) {
  return static_cast<__mmask16>(count >= kTile ? 0xffff : (1 << (count > 0 ? count : 0)) - 1);
}

// What of an entry is packed: all of it, which is one brain float, or one of two.
enum class Piece { whole, first, second };

Piece piece(int term, int terms) {
  if (terms == 1) return Piece::whole;
  return term == 0 ? Piece::first : Piece::second;
}

// What the first term, x rounded, leaves of it; nothing of an infinity.
__m512 rest(__m512 x) {
  const __m256bh first = _mm512_cvtneps_pbh(x);
  const __m512i bits = _mm512_slli_epi32(_mm512_cvtepu16_epi32(reinterpret_cast<const __m256i&>(first)), 16);
  const __m512 left = _mm512_sub_ps(x, _mm512_castsi512_ps(bits));
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(left, left, _CMP_ORD_Q), left);
}

// The elements of low, and then those of high, rounded.
__m512i rounded(__m512 low, __m512 high, Piece piece) {
  if (piece == Piece::second) low = rest(low), high = rest(high);
  const __m512bh terms = _mm512_cvtne2ps_pbh(high, low);
  return reinterpret_cast<const __m512i&>(terms);
}

// Pairs of an element of `even`, in the low half, and one of `odd`.
__m512i paired(__m512 even, __m512 odd, Piece piece) {
  if (piece == Piece::whole) {
    const __m512i high = _mm512_and_si512(_mm512_castps_si512(odd), _mm512_set1_epi32(~0xffff));
    return _mm512_or_si512(_mm512_srli_epi32(_mm512_castps_si512(even), 16), high);
  }
  alignas(64) static constexpr uint16_t kInTurn[] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                     21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                     11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  return _mm512_permutexvar_epi16(_mm512_load_si512(kInTurn), rounded(even, odd, piece));
}

// The elements of x, and then those of y.
__m512i joined(__m512 x, __m512 y, Piece piece) {
  if (piece != Piece::whole) return rounded(x, y, piece);
  const __m512i low = _mm512_srli_epi32(_mm512_castps_si512(x), 16);
  const __m512i high = _mm512_srli_epi32(_mm512_castps_si512(y), 16);
  const __m512i quarters = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
  return _mm512_permutexvar_epi64(quarters, _mm512_packus_epi32(low, high));
}

// Lanes `mask` of the rows p and p + 1 of `rows` rows, as pairs.
__m512i pair_of_rows(const float* data, int64_t ld, int64_t p, int64_t rows, __mmask16 mask, Piece piece) {
  const __m512 even = p < rows ? _mm512_maskz_loadu_ps(mask, data + p * ld) : _mm512_setzero_ps();
  const __m512 odd = p + 1 < rows ? _mm512_maskz_loadu_ps(mask, data + (p + 1) * ld) : _mm512_setzero_ps();
  return paired(even, odd, piece);
}

// B[k, n] as tiles of pairs of rows, those of the same columns after one another; beyond B they are 0.
void pack_b(uint16_t* out, const float* b, int64_t ldb, int64_t k, int64_t n, Piece piece) {
  for (int64_t j = 0; j < n; j += kTile, out += kTilesOfB * kTileElements) {
    const __mmask16 mask = first_lanes(n - j);
    for (int64_t p = 0; p < tiles_of(k, kDepth) * kDepth; p += 2)
      _mm512_store_si512(out + p * kTile, pair_of_rows(b + j, ldb, p, k, mask, piece));
  }
}

// A tile of 16 rows of 32 elements of A, of which there are m and k.
void pack_tile(uint16_t* out, const SplitFactor& a, int64_t i, int64_t p, int64_t m, int64_t k, Piece piece) {
  const int64_t first = i * a.row + p * a.col;
  if (a.type == DType::bf16) {
    const auto mask = static_cast<__mmask32>(k >= kDepth ? ~0u : (1u << k) - 1);
    for (int64_t r = 0; r < kTile; ++r) {
      const uint16_t* row = static_cast<const uint16_t*>(a.data) + first + r * a.row;
      _mm512_store_si512(out + r * kRowStride, _mm512_maskz_loadu_epi16(r < m ? mask : 0, row));
    }
    return;
  }
  const float* data = static_cast<const float*>(a.data) + first;
  if (a.col == 1) {
    for (int64_t r = 0; r < kTile; ++r) {
      const float* row = data + r * a.row;
      const int64_t count = r < m ? k : 0;
      const __m512 x = _mm512_maskz_loadu_ps(first_lanes(count), row);
      const __m512 y = _mm512_maskz_loadu_ps(first_lanes(count - kTile), row + kTile);
      _mm512_store_si512(out + r * kRowStride, joined(x, y, piece));
    }
    return;
  }
  __m512 block[kTile];  // [pair of columns][row]
  for (int64_t q = 0; q < kTile; ++q)
    block[q] = _mm512_castsi512_ps(pair_of_rows(data, a.col, 2 * q, k, first_lanes(m), piece));
  transpose(block);
  for (int64_t r = 0; r < kTile; ++r) _mm512_store_ps(out + r * kRowStride, block[r]);
}

// A[m, k], at most 32 rows, and as many columns as there are rows of B.
void pack_a(uint16_t* out, const SplitFactor& a, int64_t i, int64_t p, int64_t m, int64_t k, Piece piece) {
  for (int64_t r = 0; r < m; r += kTile) {
    for (int64_t q = 0; q < k; q += kDepth)
      pack_tile(out + r * kRowStride + q, a, i + r, p + q, m - r, k - q, piece);
  }
}

// The compiler does not see what instructions on tiles read.
void finish_stores() { __asm__ volatile("" ::: "memory"); }

// Intrinsics take numbers of tiles as literals only.
void load_tile(int tile, const void* from, int64_t row_bytes) {
  switch (tile) {
    case 0: _tile_loadd(0, from, row_bytes); break;
    case 1: _tile_loadd(1, from, row_bytes); break;
    case 2: _tile_loadd(2, from, row_bytes); break;
    default: _tile_loadd(3, from, row_bytes);
  }
}
void store_tile(int tile, void* to, int64_t row_bytes) {
  switch (tile) {
    case 0: _tile_stored(0, to, row_bytes); break;
    case 1: _tile_stored(1, to, row_bytes); break;
    case 2: _tile_stored(2, to, row_bytes); break;
    default: _tile_stored(3, to, row_bytes);
  }
}

// At most 2 x 2 tiles of C: m rows and n columns.
struct Corner {
  float* c;
  int64_t ldc, m, n;

  // Calls use(tile, its first element, rows, columns) for each tile that is there.
  template <typename Use>
  void each_tile(const Use& use) const {
    for (int64_t i = 0; i < m; i += kTile) {
      for (int64_t j = 0; j < n; j += kTile) {
        use(static_cast<int>(2 * (i / kTile) + j / kTile), c + i * ldc + j, smaller(m - i, kTile),
            smaller(n - j, kTile));
      }
    }
  }

  void load() const {
    each_tile([&](int tile, const float* from, int64_t rows, int64_t columns) {
      if (rows == kTile && columns == kTile) return load_tile(tile, from, ldc * 4);
      alignas(64) float part[kTile * kTile];
      for (int64_t i = 0; i < rows; ++i)
        _mm512_store_ps(part + i * kTile, _mm512_maskz_loadu_ps(first_lanes(columns), from + i * ldc));
      finish_stores();
      load_tile(tile, part, kTile * 4);
    });
  }

  void store() const {
    each_tile([&](int tile, float* to, int64_t rows, int64_t columns) {
      if (rows == kTile && columns == kTile) return store_tile(tile, to, ldc * 4);
      alignas(64) float part[kTile * kTile];
      store_tile(tile, part, kTile * 4);
      finish_stores();
      for (int64_t i = 0; i < rows; ++i)
        _mm512_mask_storeu_ps(to + i * ldc, first_lanes(columns), _mm512_load_ps(part + i * kTile));
    });
  }
};

// A part of the inner dimension of a product: where it begins, and the tiles of its terms in a row of packed A and in a
// column of packed B.
struct Part {
  const SplitProduct* product;
  int64_t p, k, depth, in_a, in_b;

  const uint16_t* a(int term) const { return packed.a + (in_a + term * depth) * kDepth; }
  const uint16_t* b(int term) const { return packed.b + (in_b + term * depth) * kTileElements; }
};

struct Parts {
  Part part[kMostParts];
  int64_t count = 0, tiles_of_a = 0, tiles_of_b = 0;

  // As much of a product from p on as there is room for; its size.
  int64_t add(const SplitProduct& product, int64_t p) {
    const Terms terms = product.terms;
    int64_t room = smaller((kTilesOfA - tiles_of_a) / terms.a, (kTilesOfB - tiles_of_b) / terms.b);
    const int64_t k = smaller(product.k - p, room * kDepth), depth = tiles_of(k, kDepth);
    if (k == 0) return 0;
    part[count++] = {&product, p, k, depth, tiles_of_a, tiles_of_b};
    tiles_of_a += terms.a * depth, tiles_of_b += terms.b * depth;
    return k;
  }

  void pack_b(int64_t column, int64_t columns) const {
    for (const Part* at = part; at < part + count; ++at) {
      const SplitProduct& product = *at->product;
      for (int term = 0; term < product.terms.b; ++term) {
        amx::pack_b(const_cast<uint16_t*>(at->b(term)), product.b + at->p * product.ldb + column, product.ldb,
                    at->k, columns, piece(term, product.terms.b));
      }
    }
  }
  void pack_a(int64_t row, int64_t rows) const {
    for (const Part* at = part; at < part + count; ++at) {
      const SplitProduct& product = *at->product;
      for (int term = 0; term < product.terms.a; ++term) {
        amx::pack_a(const_cast<uint16_t*>(at->a(term)), product.a, row, at->p, rows, at->k,
                    piece(term, product.terms.a));
      }
    }
    finish_stores();
  }
};

// R x W tiles of C += `depth` tiles of A, in R rows, times those of B, in W columns.
template <int R, int W>
void multiply(const uint16_t* a, const uint16_t* b, int64_t depth) {
  constexpr int64_t kRowBytes = kRowStride * 2, kTileBytes = kDepth * 2;
  const uint16_t *lower = a + kTile * kRowStride, *right = b + kTilesOfB * kTileElements;
  for (int64_t p = 0; p < depth; ++p) {
    _tile_loadd(4, a + p * kDepth, kRowBytes);
    _tile_loadd(6, b + p * kTileElements, kTileBytes);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (W > 1) {
      _tile_loadd(7, right + p * kTileElements, kTileBytes);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (R > 1) {
      _tile_loadd(5, lower + p * kDepth, kRowBytes);
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (W > 1) _tile_dpbf16ps(3, 5, 7);
    }
  }
}

// C (+)= the products of parts, from column j of tiles of packed B on.
template <int R, int W>
void corner(const Corner& c, int64_t j, const Parts& parts, bool accumulate) {
  if (accumulate) {
    c.load();
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (const Part* part = parts.part; part < parts.part + parts.count; ++part) {
    const Terms terms = part->product->terms;
    for (int ta = 0; ta < terms.a; ++ta) {
      for (int tb = 0; tb < terms.b && ta + tb < kMostTerms; ++tb)
        multiply<R, W>(part->a(ta), part->b(tb) + j * kTilesOfB * kTileElements, part->depth);
    }
  }
  c.store();
}

void configure_tiles() {
  struct {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};
  } config;
  for (int tile = 0; tile < 8; ++tile) config.row_bytes[tile] = kDepth * 2, config.rows[tile] = kTile;
  finish_stores();
  _tile_loadconfig(&config);
}

}  // namespace

void split_gemm(int64_t m, int64_t n, const SplitProduct* products, int64_t count, float* c, int64_t ldc,
                bool accumulate) {
  configure_tiles();
  for (int64_t j0 = 0; j0 < n; j0 += kColumns) {
    const int64_t columns = smaller(n - j0, kColumns);
    const SplitProduct* product = products;
    int64_t p = 0;
    for (bool first = true; first || product < products + count; first = false) {
      Parts parts;
      for (; product < products + count; ++product, p = 0) {
        p += parts.add(*product, p);
        if (p < product->k) break;
      }
      parts.pack_b(j0, columns);
      for (int64_t i = 0; i < m; i += kRows) {
        const int64_t rows = smaller(m - i, kRows);
        parts.pack_a(i, rows);
        for (int64_t j = 0; j < columns; j += 2 * kTile) {
          const Corner to{c + i * ldc + j0 + j, ldc, rows, smaller(columns - j, 2 * kTile)};
          const auto run = rows > kTile ? (to.n > kTile ? corner<2, 2> : corner<2, 1>)
                                        : (to.n > kTile ? corner<1, 2> : corner<1, 1>);
          run(to, j / kTile, parts, accumulate || !first);
        }
      }
    }
  }
  _tile_release();
}

}  // namespace hierpool::cpu::amx
