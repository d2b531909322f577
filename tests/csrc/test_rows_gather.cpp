// Products with sparse rows against plain loops, around the vector lengths and every number of vectors of a stripe, for
// every instruction set this machine has. Arrays have exactly the size of the contract, so that the address sanitizer
// sees every access beyond them.
#include <cmath>
#include <string>
#include <vector>

#include "cpu/row_kernels.h"
#include "sparse_rows.h"
#include "testing.h"

using namespace hierpool;
using namespace hierpool::cpu;

namespace {

template <typename T>
void spmm(const RowKernels<T>& kernels, T* out, int64_t ld, const SparseInputs<T, int32_t>& p,
          bool weighted) {
  kernels.spmm32(out, ld, p.n, p.dense.data(), p.ld, p.sparse(weighted));
}
template <typename T>
void spmm(const RowKernels<T>& kernels, T* out, int64_t ld, const SparseInputs<T, int64_t>& p,
          bool weighted) {
  kernels.spmm64(out, ld, p.n, p.dense.data(), p.ld, p.sparse(weighted));
}
template <typename T>
void sampled(const RowKernels<T>& kernels, T* out, const SparseInputs<T, int32_t>& p) {
  kernels.sampled32(out, p.n, p.left.data(), p.ld, p.dense.data(), p.ld, p.sparse(false));
}
template <typename T>
void sampled(const RowKernels<T>& kernels, T* out, const SparseInputs<T, int64_t>& p) {
  kernels.sampled64(out, p.n, p.left.data(), p.ld, p.dense.data(), p.ld, p.sparse(false));
}

template <typename T, typename I>
void test_spmm(const RowKernels<T>& kernels, const SparseInputs<T, I>& p, bool weighted, double tolerance) {
  const T untouched = T(7);
  const int64_t ld = p.n + 1;
  std::vector<T> out(p.rows == 0 ? 0 : (p.rows - 1) * ld + p.n, untouched);
  spmm(kernels, out.data(), ld, p, weighted);
  for (int64_t i = 0; i < p.rows; ++i) {
    const int64_t begin = p.rowptr[i], end = p.rowptr[i + 1];
    for (int64_t j = 0; j < p.n; ++j) {
      double sum = 0;
      for (int64_t e = begin; e < end; ++e) {
        const auto entry = static_cast<size_t>(e);
        const double factor = weighted ? static_cast<double>(p.value[entry]) : 1.0;
        sum += factor * static_cast<double>(p.dense[p.col[entry] * p.ld + j]);
      }
      const double got = static_cast<double>(out[i * ld + j]);
      EXPECT(std::abs(got - sum) <= tolerance * static_cast<double>(end - begin));
    }
    if (i + 1 < p.rows) EXPECT(out[i * ld + p.n] == untouched);
  }
}

template <typename T, typename I>
void test_sampled(const RowKernels<T>& kernels, const SparseInputs<T, I>& p, double tolerance) {
  const T untouched = T(7);
  std::vector<T> out(p.last(), untouched);
  sampled(kernels, out.data(), p);
  for (int64_t e = 0; e < p.first(); ++e) EXPECT(out[e] == untouched);
  for (int64_t i = 0; i < p.rows; ++i) {
    for (int64_t e = p.rowptr[i]; e < p.rowptr[i + 1]; ++e) {
      double sum = 0;
      for (int64_t j = 0; j < p.n; ++j) {
        sum += static_cast<double>(p.left[i * p.ld + j]) * static_cast<double>(p.dense[p.col[e] * p.ld + j]);
      }
      const double got = static_cast<double>(out[e]);
      EXPECT(std::abs(got - sum) <= tolerance * static_cast<double>(p.n + 1));
    }
  }
}

template <typename T, typename I>
void test_all(const RowKernels<T>& kernels) {
  const double tolerance = sizeof(T) == 8 ? 1e-15 : 5e-7;
  constexpr int64_t kLanes = 64 / sizeof(T);  // of the longest vector
  for (int64_t n = 1; n <= 8 * kLanes + kLanes + 1; ++n) {
    // All shapes at a few widths, at the others the one that has everything.
    const bool all = n <= 3 || n % kLanes <= 1 || n % kLanes == kLanes - 1;
    for (size_t shape = 0; shape < kCounts.size(); ++shape) {
      if (!all && shape != 4) continue;
      const SparseInputs<T, I> p(kCounts[shape], n, n % 3, n % 2 == 0 ? 0 : 5, static_cast<uint32_t>(n));
      for (bool weighted : {false, true}) test_spmm(kernels, p, weighted, tolerance);
      test_sampled(kernels, p, tolerance);
    }
  }
}

// No sum may depend on where it is written or on the rows beside it.
template <typename T>
void test_rows_one_by_one(const RowKernels<T>& kernels) {
  const SparseInputs<T, int32_t> p({3, 0, 20, 1, 7}, 37, 2, 0, 5);
  std::vector<T> whole(p.rows * p.n), one(p.n);
  spmm(kernels, whole.data(), p.n, p, true);
  for (int64_t i = 0; i < p.rows; ++i) {
    const SparseRows<T, int32_t> row{1, p.rowptr.data() + i, p.col.data(), p.value.data()};
    kernels.spmm32(one.data(), p.n, p.n, p.dense.data(), p.ld, row);
    for (int64_t j = 0; j < p.n; ++j) {
      EXPECT(one[j] == whole[i * p.n + j]);
    }
  }
}

}  // namespace

TEST(rows_gather) {
  testing::for_each_isa([](Isa isa) {
    test_all<float, int32_t>(row_kernels<float>(isa));
    test_all<float, int64_t>(row_kernels<float>(isa));
    test_all<double, int32_t>(row_kernels<double>(isa));
    test_all<double, int64_t>(row_kernels<double>(isa));
    test_rows_one_by_one(row_kernels<float>(isa));
    test_rows_one_by_one(row_kernels<double>(isa));
  });
}
