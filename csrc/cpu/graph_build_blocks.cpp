// Some blocks of a block-diagonal matrix as a matrix of their own.
#include <numeric>

#include "hierpool/graph_build.h"

namespace hierpool::cpu {
namespace {

template <typename I>
void copy_blocks(const CsrBlocks& b, const int64_t* ptr, const int64_t* col_ptr, I* rowptr, I* col,
                 int64_t* row, int64_t* entry) {
  const auto* const from_rowptr = static_cast<const I*>(b.a.rowptr);
  const auto* const from_col = static_cast<const I*>(b.a.col);
  int64_t entries = 0;
  for (int64_t n = 0; n < b.count; ++n) {
    const int64_t block = b.index[n], begin = b.ptr[block], rows = b.ptr[block + 1] - begin;
    const int64_t first = from_rowptr[begin], last = from_rowptr[begin + rows];
    const auto moved_rows = static_cast<I>(entries - first),
               moved_columns = static_cast<I>(col_ptr[n] - b.col_ptr[block]);
    for (int64_t i = 0; i < rows; ++i) rowptr[ptr[n] + i] = from_rowptr[begin + i] + moved_rows;
    for (int64_t e = first; e < last; ++e) col[entries + e - first] = from_col[e] + moved_columns;
    std::iota(row + ptr[n], row + ptr[n + 1], begin);
    if (entry) std::iota(entry + entries, entry + entries + last - first, first);
    entries += last - first;
  }
  rowptr[ptr[b.count]] = static_cast<I>(entries);
}

}  // namespace

CsrBlocksSize csr_blocks_size(const CsrBlocks& b) {
  CsrBlocksSize size{};
  const auto at = [&](int64_t row) {
    return b.a.int64_index ? static_cast<const int64_t*>(b.a.rowptr)[row]
                           : int64_t{static_cast<const int32_t*>(b.a.rowptr)[row]};
  };
  for (int64_t n = 0; n < b.count; ++n) {
    const int64_t begin = b.ptr[b.index[n]], end = b.ptr[b.index[n] + 1];
    size.rows += end - begin, size.entries += at(end) - at(begin);
  }
  return size;
}

void csr_blocks(const CsrBlocks& b, int64_t* ptr, int64_t* col_ptr, void* rowptr, void* col, int64_t* row,
                int64_t* entry) {
  ptr[0] = col_ptr[0] = 0;
  for (int64_t n = 0; n < b.count; ++n) {
    const int64_t block = b.index[n];
    ptr[n + 1] = ptr[n] + b.ptr[block + 1] - b.ptr[block];
    col_ptr[n + 1] = col_ptr[n] + b.col_ptr[block + 1] - b.col_ptr[block];
  }
  const auto copy = [&]<typename I>(I) {
    copy_blocks(b, ptr, col_ptr, static_cast<I*>(rowptr), static_cast<I*>(col), row, entry);
  };
  b.a.int64_index ? copy(int64_t()) : copy(int32_t());
}

}  // namespace hierpool::cpu
