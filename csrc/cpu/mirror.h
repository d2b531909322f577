// Making a matrix in compressed rows equal to its transpose.
#pragma once

#include <cstdint>
#include <vector>

namespace hierpool::cpu {

// What is left of the diagonal becomes the mirror image of what is right of it; the places of entries are symmetric.
template <typename I, typename T>
void mirror_values(int64_t rows, const I* rowptr, const I* col, T* value) {
  std::vector<I> next(rowptr, rowptr + rows);  // where the next entry left of the diagonal is, for each row
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t e = rowptr[i]; e < rowptr[i + 1]; ++e) {
      if (col[e] > i) value[next[static_cast<size_t>(col[e])]++] = value[e];
    }
  }
}

}  // namespace hierpool::cpu
