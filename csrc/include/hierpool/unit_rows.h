// Contract of rows of length 1 on the CPU. T is double where `is_double`, else float.
#pragma once

#include <cstdint>

#include "hierpool/runtime.h"

namespace hierpool {

struct UnitRows {
  int64_t rows, n;
  bool is_double;
  bool relu;
};

namespace cpu {

// Shorter rows are divided by this length, which the gradient treats as a constant.
inline constexpr double kShortestRow = 1e-12;

// The first n elements of each row of h[rows, stride] become y = h / length. Also writes length[rows] and out[rows, n],
// which is y or, with relu, max(0, y).
void unit_rows_fwd(const UnitRows& shape, void* h, int64_t stride, void* length, void* out,
                   const Runtime& runtime);

// dh[rows, stride] from dout[rows, dout_stride]; y is as above, with the stride of dh
void unit_rows_bwd(const UnitRows& shape, const void* dout, int64_t dout_stride, const void* y,
                   const void* length, void* dh, int64_t stride, const Runtime& runtime);

}  // namespace cpu
}  // namespace hierpool
