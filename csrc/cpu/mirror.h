// Making a matrix in compressed rows equal to its transpose.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/tasks.h"

namespace hierpool::cpu {

// Calls task(begin, end) for ranges of columns, whose entries are to be found in all rows: so few that finding them
// does not count, and so narrow that what is written of them stays in a cache.
template <typename I, typename Task>
void each_column_range(int64_t rows, const I* rowptr, const Runtime& runtime, const Task& task) {
  const int64_t work = rowptr[rows] + rows;
  const int64_t per_task =
      std::clamp<int64_t>(work / (4 * runtime.threads), int64_t{1} << 16, int64_t{1} << 23);
  run_row_tasks(
      runtime, rows, per_task, [&](int64_t k) { return static_cast<int64_t>(rowptr[k]) + k; }, task);
}

// What is left of the diagonal becomes the mirror image of what is right of it; the places of entries are symmetric.
// An entry has `width` values.
template <typename I, typename T>
void mirror_values(int64_t rows, const I* rowptr, const I* col, T* value, const Runtime& runtime,
                   int64_t width = 1) {
  each_column_range(rows, rowptr, runtime, [&](int64_t begin, int64_t end, int64_t) {
    std::vector<I> next(rowptr + begin,
                        rowptr + end);  // where the next entry left of the diagonal is, for each row
    for (int64_t i = 0; i < end; ++i) {
      const I* last = col + rowptr[i + 1];
      const I* at = std::lower_bound(col + rowptr[i], last, static_cast<I>(std::max(begin, i + 1)));
      for (; at != last && *at < end; ++at) {
        const int64_t mirrored = next[static_cast<size_t>(*at - begin)]++;
        std::copy_n(value + (at - col) * width, width, value + mirrored * width);
      }
    }
  });
}

}  // namespace hierpool::cpu
