// Matrix products, by the row kernels or by the BLAS where that is faster.
#pragma once

#include <limits>
#include <vector>

#include "cpu/row_kernels.h"

namespace hierpool::cpu {

// Multiply-adds from which a product goes to the BLAS: where its packing pays. Measured with MKL: of the AVX-512 kernel
// here it was a tenth faster on an Intel processor (Emerald Rapids), and never on Zen 4.
inline int64_t blas_from(Isa isa) {
  constexpr int64_t kLarge = int64_t{1} << 27;
  switch (isa) {
    case Isa::scalar: return int64_t{1} << 15;
    case Isa::avx2: return kLarge;
    default: return is_intel() ? kLarge : std::numeric_limits<int64_t>::max();
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
      split_ = split_gemm(isa_in_force());
    }
  }

  const RowKernels<T>& kernels;

  // C[m, n] (+)= A B with row-major A[m, lda].
  void product(int64_t m, int64_t n, int64_t k, const T* a, int64_t lda, const T* b, int64_t ldb, T* c,
               int64_t ldc, bool accumulate, Terms terms = {}) const {
    if (splits(m, n, k, terms))
      return split_product(m, n, k, {a, DType::f32, lda, 1}, b, ldb, c, ldc, accumulate, terms);
    if (large(m, n, k)) return blas_(false, false, m, n, k, a, lda, b, ldb, T(accumulate), c, ldc);
    kernels.gemm(m, n, k, a, lda, 1, b, ldb, c, ldc, accumulate);
  }

  // C[m, n] (+)= A^T B with row-major A[k, lda].
  void product_of_transposed(int64_t m, int64_t n, int64_t k, const T* a, int64_t lda, const T* b,
                             int64_t ldb, T* c, int64_t ldc, bool accumulate, Terms terms = {}) const {
    if (splits(m, n, k, terms))
      return split_product(m, n, k, {a, DType::f32, 1, lda}, b, ldb, c, ldc, accumulate, terms);
    if (large(m, n, k)) return blas_(true, false, m, n, k, a, lda, b, ldb, T(accumulate), c, ldc);
    kernels.gemm(m, n, k, a, 1, lda, b, ldb, c, ldc, accumulate);
  }

  // Whether a product is one of split entries: large enough to pay for packing them.
  bool splits(int64_t m, int64_t n, int64_t k, Terms terms) const {
    return split_ && terms.a > 0 && terms.b > 0 && m * n * k >= kSplitFrom;
  }
  void split_product(int64_t m, int64_t n, int64_t k, const SplitFactor& a, const T* b, int64_t ldb, T* c,
                     int64_t ldc, bool accumulate, Terms terms) const {
    if constexpr (sizeof(T) == 4) {
      const SplitProduct product{a, b, ldb, k, terms};
      split_(m, n, &product, 1, c, ldc, accumulate);
    }
  }
  // C = the sum of products that are all split.
  void sum_of_split_products(int64_t m, int64_t n, const std::vector<Factors<T>>& factors, T* c,
                             int64_t ldc) const {
    if constexpr (sizeof(T) == 4) {
      std::vector<SplitProduct> products;
      products.reserve(factors.size());
      for (const Factors<T>& f : factors)
        products.push_back({{f.a, DType::f32, f.a_row, f.a_col}, f.b, f.ldb, f.k, f.terms});
      split_(m, n, products.data(), static_cast<int64_t>(products.size()), c, ldc, false);
    }
  }

 protected:
  bool large(int64_t m, int64_t n, int64_t k) const { return blas_ && m * n * k >= blas_from_; }

 private:
  static constexpr int64_t kSplitFrom = int64_t{1} << 16;

  Gemm<T> blas_ = nullptr;
  SplitGemm split_ = nullptr;
  int64_t blas_from_;
};

}  // namespace hierpool::cpu
