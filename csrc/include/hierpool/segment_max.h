// Contract of maxima over the rows of each group, on the CPU. T is double where `is_double`, else float.
#pragma once

#include <cstdint>

#include "hierpool/runtime.h"

namespace hierpool {

// [rows, n] elements, and the group of each row: group[i] or, where it is null, i / (rows / groups) if mask[i].
struct Segments {
  const int64_t* group;
  const uint8_t* mask;  // null: all
  int64_t rows, groups, n;
  bool is_double;
};

namespace cpu {

// The results do not depend on runtime.threads.

// y[groups, n]: the largest x of each group; NaN counts as largest, and a group without rows is 0.
void segment_max_fwd(const Segments& segments, const void* x, void* y, const Runtime& runtime);

// dx[rows, n]: dy[groups, n] over the number of rows that hold the maximum, in each of them, else 0; NaN where y is.
void segment_max_bwd(const Segments& segments, const void* x, const void* y, const void* dy, void* dx,
                     const Runtime& runtime);

}  // namespace cpu
}  // namespace hierpool
