#include "hierpool/spmm.h"

#include "cpu/accumulation.h"
#include "cpu/csr_rows.h"
#include "cpu/isa.h"

namespace hierpool::cpu {
namespace {

constexpr int64_t kMaxRows = 4096;  // of one task

template <typename T>
void spmm(const Spmm& product, const DenseMatrix& x, T* out, const Runtime& runtime) {
  const CsrProduct<T> a(product.a, row_kernels<T>(isa_in_force()));
  const int64_t n = product.n;
  const auto* rows = static_cast<const T*>(x.data);
  const auto hubs = a.multiply_hubs(runtime, n, rows, x.stride, 0, product.a.rows);
  const std::vector<int64_t> bounds = a.cut(0, product.a.rows, kMaxRows);
  run_tasks(runtime, static_cast<int64_t>(bounds.size()) - 1, [&](int64_t task, int64_t) {
    const int64_t begin = bounds[static_cast<size_t>(task)], end = bounds[static_cast<size_t>(task) + 1];
    a.multiply(out + begin * n, n, n, rows, x.stride, begin, end, hubs);
  });
}

template <typename T>
void sampled_product(const Spmm& product, const DenseMatrix& left, const DenseMatrix& right, T* out,
                     const Runtime& runtime) {
  const CsrProduct<T> a(product.a, row_kernels<T>(isa_in_force()));
  const auto* l = static_cast<const T*>(left.data);
  const auto* r = static_cast<const T*>(right.data);
  std::vector<typename CsrProduct<T>::Part> parts;
  a.add_parts(parts, 0, product.a.rows, kMaxRows);
  run_tasks(runtime, static_cast<int64_t>(parts.size()), [&](int64_t task, int64_t) {
    const auto& part = parts[static_cast<size_t>(task)];
    const T* first = l + part.row * left.stride;
    if (a.is_hub(part.row)) {
      a.sampled_part(out, product.n, first, r, right.stride, part.entry, part.last_entry);
    } else {
      a.sampled(out, product.n, first, left.stride, r, right.stride, part.row, part.last_row);
    }
  });
}

}  // namespace

void spmm_fwd(const Spmm& product, const DenseMatrix& x, void* out, const Runtime& runtime) {
  with_accumulation_type(product.is_double,
                         [&]<typename T>(T) { spmm(product, x, static_cast<T*>(out), runtime); });
}

void sampled_product(const Spmm& product, const DenseMatrix& left, const DenseMatrix& right, void* out,
                     const Runtime& runtime) {
  with_accumulation_type(product.is_double, [&]<typename T>(T) {
    sampled_product(product, left, right, static_cast<T*>(out), runtime);
  });
}

}  // namespace hierpool::cpu
