// Products of float32 matrices on instructions for brain floats: each entry is split into a sum of them.
#pragma once

#include <cstdint>

#include "cpu/isa.h"
#include "hierpool/runtime.h"

namespace hierpool::cpu {

// How many brain floats an entry of each matrix is split into: 1 or 2, which keep 8 and 16 binary digits, and so all
// those of bfloat16 and of float16. 0: digits would be lost, so that the product has to be one of float32.
struct Terms {
  int a = 0, b = 0;
};

// A(i, p) = data[i * row + p * col], of f32 or bf16; one of the strides is 1, and of bf16 it is `col`.
struct SplitFactor {
  const void* data;
  DType type;
  int64_t row, col;
};

// A B of inner size k with row-major B[k, ldb].
struct SplitProduct {
  SplitFactor a;
  const float* b;
  int64_t ldb;
  int64_t k;
  Terms terms;
};

// C[m, n] (+)= the sum of products, in float32. Of two second terms the product is left out; that of an infinity and a
// second term may be NaN.
using SplitGemm = void (*)(int64_t m, int64_t n, const SplitProduct* products, int64_t count, float* c,
                           int64_t ldc, bool accumulate);

// Null if the instruction set has none.
SplitGemm split_gemm(Isa isa);

}  // namespace hierpool::cpu
