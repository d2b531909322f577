// What a caller gives the CPU kernels: element types, threads and a BLAS.
#pragma once

#include <cstdint>

namespace hierpool {

// Element types of tensors as they are stored; bool is u8.
enum class DType : int32_t { f32, f64, bf16, f16, i8, u8 };

constexpr int64_t element_bytes(DType type) {
  switch (type) {
    case DType::f64: return 8;
    case DType::f32: return 4;
    case DType::bf16:
    case DType::f16: return 2;
    default: return 1;
  }
}

// Row-major C[m, n] = op(A) op(B) + beta C, on the calling thread alone.
// op(A) is [m, k]: A[m, lda] or, transposed, A[k, lda]; op(B) is [k, n] likewise.
template <typename T>
using Gemm = void (*)(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, const T* a,
                      int64_t lda, const T* b, int64_t ldb, T beta, T* c, int64_t ldc);

struct Runtime {
  using Body = void (*)(int64_t begin, int64_t end, void* context);
  // Runs body over [0, threads) on that many threads.
  void (*parallel)(int64_t threads, Body body, void* context);
  int64_t threads;
  Gemm<float> sgemm;  // null where the process carries no BLAS
  Gemm<double> dgemm;
};

}  // namespace hierpool
