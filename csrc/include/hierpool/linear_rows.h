// Contract of a linear map of valid rows on the CPU. T is double where `wide`, else float.
#pragma once

#include <cstdint>

#include "hierpool/runtime.h"

namespace hierpool {

struct LinearRows {
  int64_t rows, inputs, outputs;
  const uint8_t* mask;  // [rows], or null: all are valid
  bool wide;
};

namespace cpu {

// y[rows, outputs] = x weight^T + bias, 0 where a row is not valid; x[rows, stride], weight[outputs, inputs]
void linear_rows(const LinearRows& shape, const void* x, int64_t stride, const void* weight, const void* bias,
                 void* y, const Runtime& runtime);

// dx[rows, inputs], 0 where a row is not valid, or null; dweight and dbias, or both null; from dy[rows, dy_stride].
// Sums over rows do not depend on the number of threads.
void linear_rows_backward(const LinearRows& shape, const void* dy, int64_t dy_stride, const void* x,
                          int64_t stride, const void* weight, void* dx, void* dweight, void* dbias,
                          const Runtime& runtime);

}  // namespace cpu
}  // namespace hierpool
