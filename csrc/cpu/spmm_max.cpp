#include "hierpool/spmm_max.h"

#include "cpu/accumulation.h"
#include "cpu/csr_rows.h"
#include "cpu/isa.h"

namespace hierpool::cpu {
namespace {

constexpr int64_t kMaxRows = 1024;  // of one task

template <typename T>
class Extremes : public CsrRows<T> {
 public:
  using CsrRows<T>::CsrRows;

  // run(begin, end) for ranges of rows.
  template <typename Run>
  void each(const Runtime& runtime, int64_t rows, const Run& run) const {
    const std::vector<int64_t> bounds = this->cut(0, rows, kMaxRows);
    run_tasks(runtime, static_cast<int64_t>(bounds.size()) - 1, [&](int64_t task, int64_t) {
      run(bounds[static_cast<size_t>(task)], bounds[static_cast<size_t>(task) + 1]);
    });
  }

  template <typename I>
  SparseRows<T, I> rows(const Csr& a, int64_t begin, int64_t end) const {
    return {end - begin, static_cast<const I*>(a.rowptr) + begin, static_cast<const I*>(a.col),
            static_cast<const T*>(a.value)};
  }
};

}  // namespace

void spmm_max_fwd(const Spmm& product, const DenseMatrix& x, bool smallest, int64_t none, void* out,
                  void* column, const Runtime& runtime) {
  with_accumulation_type(product.is_double, [&]<typename T>(T) {
    const RowKernels<T>& k = row_kernels<T>(isa_in_force());
    const Extremes<T> a(product.a, k);
    const int64_t n = product.n;
    const auto* rows = static_cast<const T*>(x.data);
    a.each(runtime, product.a.rows, [&](int64_t begin, int64_t end) {
      T* to = static_cast<T*>(out) + begin * n;
      if (product.a.int64_index) {
        k.extreme64(to, static_cast<int64_t*>(column) + begin * n, n, rows, x.stride, smallest, none,
                    a.template rows<int64_t>(product.a, begin, end));
      } else {
        k.extreme32(to, static_cast<int32_t*>(column) + begin * n, n, rows, x.stride, smallest,
                    static_cast<int32_t>(none), a.template rows<int32_t>(product.a, begin, end));
      }
    });
  });
}

void spmm_max_bwd(const Spmm& transpose, const DenseMatrix& x, const void* dout, const void* column, void* dx,
                  void* dvalue, const Runtime& runtime) {
  with_accumulation_type(transpose.is_double, [&]<typename T>(T) {
    const RowKernels<T>& k = row_kernels<T>(isa_in_force());
    const Extremes<T> a(transpose.a, k);
    const int64_t n = transpose.n;
    const auto* dy = static_cast<const T*>(dout);
    a.each(runtime, transpose.a.rows, [&](int64_t begin, int64_t end) {
      T* to = static_cast<T*>(dx) + begin * n;
      const T* from = static_cast<const T*>(x.data) + begin * x.stride;
      if (transpose.a.int64_index) {
        k.extreme_gradient64(to, static_cast<T*>(dvalue), n, from, x.stride, begin, dy,
                             static_cast<const int64_t*>(column),
                             a.template rows<int64_t>(transpose.a, begin, end));
      } else {
        k.extreme_gradient32(to, static_cast<T*>(dvalue), n, from, x.stride, begin, dy,
                             static_cast<const int32_t*>(column),
                             a.template rows<int32_t>(transpose.a, begin, end));
      }
    });
  });
}

}  // namespace hierpool::cpu
