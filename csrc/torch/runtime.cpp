#include "torch/runtime.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <algorithm>

// The BLAS that torch carries, if its library exports one; and how to keep it on the calling thread, without which
// it is not used: its threads would compete with ours, and cut sums differently for every number of threads.
#if defined(__ELF__)
extern "C" {
#define HIERPOOL_WEAK __attribute__((weak))
HIERPOOL_WEAK void sgemm_(const char*, const char*, const int*, const int*, const int*, const float*,
                          const float*, const int*, const float*, const int*, const float*, float*,
                          const int*);
HIERPOOL_WEAK void dgemm_(const char*, const char*, const int*, const int*, const int*, const double*,
                          const double*, const int*, const double*, const int*, const double*, double*,
                          const int*);
HIERPOOL_WEAK int MKL_Set_Num_Threads_Local(int);
HIERPOOL_WEAK int openblas_set_num_threads_local(int);
}
#define HIERPOOL_HAS_BLAS 1
#endif

namespace hierpool::torch_binding {
namespace {

#ifdef HIERPOOL_HAS_BLAS

class OneThread {
 public:
  OneThread() : set_(MKL_Set_Num_Threads_Local ? MKL_Set_Num_Threads_Local : openblas_set_num_threads_local) {
    previous_ = set_(1);
  }
  ~OneThread() { set_(previous_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

  static bool possible() { return MKL_Set_Num_Threads_Local || openblas_set_num_threads_local; }

 private:
  int (*set_)(int);
  int previous_;
};

// Row-major C = op(A) op(B) is column-major C^T = op(B)^T op(A)^T.
template <typename T, auto* gemm>
void multiply(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, const T* a, int64_t lda,
              const T* b, int64_t ldb, T beta, T* c, int64_t ldc) {
  const OneThread guard;
  const int rows = static_cast<int>(m), columns = static_cast<int>(n), inner = static_cast<int>(k);
  const int ia = static_cast<int>(lda), ib = static_cast<int>(ldb), ic = static_cast<int>(ldc);
  const T one = 1;
  gemm(transpose_b ? "T" : "N", transpose_a ? "T" : "N", &columns, &rows, &inner, &one, b, &ib, a, &ia, &beta,
       c, &ic);
}

#endif

void parallel(int64_t threads, Runtime::Body body, void* context) {
  torch::stable::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) { body(begin, end, context); });
}

// Asks for large pages behind a large new tensor: a fault for every 4 KiB of it costs as much as the arithmetic on it.
void advise_large_pages([[maybe_unused]] void* data, [[maybe_unused]] int64_t bytes) {
#ifdef __linux__
  constexpr uintptr_t kPage = 4096;
  constexpr int64_t kLarge = int64_t{1} << 22;
  if (bytes < kLarge) return;
  const auto begin = (reinterpret_cast<uintptr_t>(data) + kPage - 1) / kPage * kPage;
  const auto end = (reinterpret_cast<uintptr_t>(data) + static_cast<uintptr_t>(bytes)) / kPage * kPage;
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);  // a hint: refusal changes nothing
#endif
}

}  // namespace

Tensor empty(std::initializer_list<int64_t> sizes, ScalarType type) {
  using torch::stable::detail::from;
  using torch::stable::detail::to;
  constexpr size_t kMaxDims = 4;
  STD_TORCH_CHECK(sizes.size() <= kMaxDims, "too many dimensions");
  int64_t strides[kMaxDims];
  int64_t stride = 1;
  for (size_t dim = sizes.size(); dim-- > 0;) {
    strides[dim] = stride;
    stride *= std::max<int64_t>(sizes.begin()[dim], 1);
  }
  AtenTensorHandle handle = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(static_cast<int64_t>(sizes.size()), sizes.begin(), strides,
                                                  to<int32_t>(from(type)), aoti_torch_device_type_cpu(), 0,
                                                  &handle));
  Tensor tensor(handle);
  advise_large_pages(tensor.data_ptr(), tensor.numel() * static_cast<int64_t>(tensor.element_size()));
  return tensor;
}

Runtime runtime() {
  Runtime r{parallel, static_cast<int64_t>(torch::stable::get_num_threads()), nullptr, nullptr};
#ifdef HIERPOOL_HAS_BLAS
  if (OneThread::possible()) {
    if (sgemm_) r.sgemm = multiply<float, sgemm_>;
    if (dgemm_) r.dgemm = multiply<double, dgemm_>;
  }
#endif
  return r;
}

}  // namespace hierpool::torch_binding
