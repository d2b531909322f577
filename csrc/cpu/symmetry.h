// Comparing a block of A with its mirror image. Where 0.0 and -0.0 or two NaN count as different, that costs a second
// product and nothing else.
#pragma once

#include <cstring>

#include "cpu/pool_context.h"

namespace hierpool::cpu {

// Rows [i0, i1) and columns [j0, j1), at most kSize of each, counted among the valid nodes.
struct Block {
  static constexpr int64_t kSize = 32;
  int64_t i0, i1, j0, j1;
};

template <typename Bits>
bool bits_differ_from_mirror(const Bits* a, int64_t ld, const Graph& g, const Block& block) {
  // The mirror image is transposed first: rows a power of two apart share few cache lines, and are read once each.
  Bits transposed[Block::kSize][Block::kSize];
  for (int64_t j = block.j0; j < block.j1; ++j) {
    const Bits* mirror = a + g.row(j) * ld;
    for (int64_t i = block.i0; i < block.i1; ++i) transposed[i - block.i0][j - block.j0] = mirror[g.row(i)];
  }
  Bits difference = 0;
  for (int64_t i = block.i0; i < block.i1; ++i) {
    const Bits* row = a + g.row(i) * ld;
    const Bits* other = transposed[i - block.i0];
    if (g.rows == nullptr) {
      for (int64_t j = block.j0; j < block.j1; ++j) difference |= row[j] ^ other[j - block.j0];
    } else {
      for (int64_t j = block.j0; j < block.j1; ++j) difference |= row[g.rows[j]] ^ other[j - block.j0];
    }
  }
  return difference != 0;
}

template <typename T>
bool differs_from_mirror(const RowKernels<T>& kernels, const void* a, DType type, int64_t ld, const Graph& g,
                         const Block& block) {
  if (g.rows == nullptr && block.i1 - block.i0 == Block::kSize && block.j1 - block.j0 == Block::kSize) {
    const char* rows = at(a, type, block.i0 * ld + block.j0);
    return !kernels.is_transpose(rows, at(a, type, block.j0 * ld + block.i0), type, ld, Block::kSize);
  }
  switch (element_bytes(type)) {
    case 1: return bits_differ_from_mirror(static_cast<const uint8_t*>(a), ld, g, block);
    case 2: return bits_differ_from_mirror(static_cast<const uint16_t*>(a), ld, g, block);
    case 4: return bits_differ_from_mirror(static_cast<const uint32_t*>(a), ld, g, block);
    default: return bits_differ_from_mirror(static_cast<const uint64_t*>(a), ld, g, block);
  }
}

// Whether sparse rows of a square matrix are those of its transpose, bit for bit. `next` holds a number for each row.
template <typename T>
bool equals_transpose(const SparseRows<T, int32_t>& a, int32_t* next) {
  // next[j]: of the entries of row j right of the diagonal, the first without its mirror image. Rows are visited in
  // order, so that the mirror images of these entries come in order.
  for (int32_t i = 0; i < a.count; ++i) {
    int32_t e = a.rowptr[i];
    for (; e < a.rowptr[i + 1] && a.col[e] < i; ++e) {
      const int32_t j = a.col[e], mirror = next[j]++;
      if (mirror == a.rowptr[j + 1] || a.col[mirror] != i) return false;
      if (std::memcmp(&a.value[mirror], &a.value[e], sizeof(T)) != 0) return false;
    }
    next[i] = e + (e < a.rowptr[i + 1] && a.col[e] == i);
  }
  for (int64_t i = 0; i < a.count; ++i) {
    if (next[i] != a.rowptr[i + 1]) return false;
  }
  return true;
}

}  // namespace hierpool::cpu
