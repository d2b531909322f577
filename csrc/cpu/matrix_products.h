// Matrix products, by the row kernels or by the BLAS where that is faster.
#pragma once

#include <limits>

#include "cpu/row_kernels.h"

namespace hierpool::cpu {

// Multiply-adds from which a product goes to the BLAS: where its packing pays (measured with MKL on Zen 4, where
// the AVX-512 kernel here was the faster one at every size).
constexpr int64_t blas_from(Isa isa) {
  switch (isa) {
    case Isa::scalar: return int64_t{1} << 15;
    case Isa::avx2: return int64_t{1} << 27;
    default: return std::numeric_limits<int64_t>::max();
  }
}

template <typename T>
class MatrixProducts {
 public:
  explicit MatrixProducts(const Runtime& runtime)
      : kernels(row_kernels<T>(isa_in_force())), blas_from_(blas_from(isa_in_force())) {
    if constexpr (sizeof(T) == 8) {
      blas_ = runtime.dgemm;
    } else {
      blas_ = runtime.sgemm;
    }
  }

  const RowKernels<T>& kernels;

  // C[m, n] (+)= A B with row-major A[m, lda].
  void product(int64_t m, int64_t n, int64_t k, const T* a, int64_t lda, const T* b, int64_t ldb, T* c,
               int64_t ldc, bool accumulate) const {
    if (large(m, n, k)) return blas_(false, false, m, n, k, a, lda, b, ldb, T(accumulate), c, ldc);
    kernels.gemm(m, n, k, a, lda, 1, b, ldb, c, ldc, accumulate);
  }

  // C[m, n] (+)= A^T B with row-major A[k, lda].
  void product_of_transposed(int64_t m, int64_t n, int64_t k, const T* a, int64_t lda, const T* b,
                             int64_t ldb, T* c, int64_t ldc, bool accumulate) const {
    if (large(m, n, k)) return blas_(true, false, m, n, k, a, lda, b, ldb, T(accumulate), c, ldc);
    kernels.gemm(m, n, k, a, 1, lda, b, ldb, c, ldc, accumulate);
  }

 protected:
  bool large(int64_t m, int64_t n, int64_t k) const { return blas_ && m * n * k >= blas_from_; }

 private:
  Gemm<T> blas_ = nullptr;
  int64_t blas_from_;
};

}  // namespace hierpool::cpu
