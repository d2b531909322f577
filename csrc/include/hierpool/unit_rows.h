// Contract of rows of length 1 on the CPU. T is double where `wide`, else float.
#pragma once

#include <cstdint>

#include "hierpool/runtime.h"

namespace hierpool {

struct UnitRows {
  int64_t rows, n;
  bool wide;
  bool relu;
};

namespace cpu {

// Rows shorter than this are divided by it, and their length is taken as constant.
inline constexpr double kShortestRow = 1e-12;

// h[rows, stride], of whose rows the first n elements count, becomes y = h / length; length[rows];
// out[rows, n] = y or, with relu, max(0, y)
void unit_rows(const UnitRows& shape, void* h, int64_t stride, void* length, void* out,
               const Runtime& runtime);

// dh[rows, stride] from dout[rows, dout_stride]; y is as above, with the stride of dh
void unit_rows_backward(const UnitRows& shape, const void* dout, int64_t dout_stride, const void* y,
                        const void* length, void* dh, int64_t stride, const Runtime& runtime);

}  // namespace cpu
}  // namespace hierpool
