// Operations on differences of rows against plain loops, around the vector lengths and every number of vectors of a
// stripe, for every instruction set this machine has.
#include <cmath>
#include <limits>
#include <vector>

#include "cpu/row_kernels.h"
#include "sparse_rows.h"
#include "testing.h"

using namespace hierpool;
using namespace hierpool::cpu;

namespace {

// The kernels for either width of indices.
template <typename T>
struct Kernels {
  const RowKernels<T>& table;

  auto distances(const SparseRows<T, int32_t>&) const { return table.distances32; }
  auto distances(const SparseRows<T, int64_t>&) const { return table.distances64; }
  auto variation(const SparseRows<T, int32_t>&) const { return table.variation32; }
  auto variation(const SparseRows<T, int64_t>&) const { return table.variation64; }
  auto signs(const SparseRows<T, int32_t>&) const { return table.signs32; }
  auto signs(const SparseRows<T, int64_t>&) const { return table.signs64; }
};

// Elements from few numbers, so that many differences are 0, and entries of which some are 0.
template <typename T, typename I>
void round_some(SparseInputs<T, I>& p) {
  for (auto* rows : {&p.dense, &p.left}) {
    for (T& x : *rows) x = std::round(x * 2) / 2;
  }
  for (size_t e = 0; e < p.value.size(); e += 3) p.value[e] = 0;
}

template <typename T, typename I>
double difference(const SparseInputs<T, I>& p, int64_t i, int64_t e, int64_t k) {
  return static_cast<double>(p.left[i * p.ld + k]) - static_cast<double>(p.dense[p.col[e] * p.ld + k]);
}

template <typename T, typename I>
double distance(const SparseInputs<T, I>& p, int64_t i, int64_t e) {
  double sum = 0;
  for (int64_t k = 0; k < p.n; ++k) sum += std::abs(difference(p, i, e, k));
  return sum;
}

// Calls visit(row, entry).
template <typename T, typename I, typename Visit>
void for_entries(const SparseInputs<T, I>& p, const Visit& visit) {
  for (int64_t i = 0; i < p.rows; ++i) {
    for (int64_t e = p.rowptr[i]; e < p.rowptr[i + 1]; ++e) visit(i, e);
  }
}

template <typename T, typename I>
void test_distances(const Kernels<T>& kernels, const SparseInputs<T, I>& p, double tolerance) {
  const T untouched = T(7), scale = T(-0.5);
  const auto a = p.sparse(false);
  std::vector<T> out(p.last(), untouched);
  kernels.distances(a)(out.data(), p.n, p.left.data(), p.ld, p.dense.data(), p.ld, scale, a);
  for (int64_t e = 0; e < p.first(); ++e) EXPECT(out[e] == untouched);
  for_entries(p, [&](int64_t i, int64_t e) {
    const double got = static_cast<double>(out[e]);
    EXPECT(std::abs(got + 0.5 * distance(p, i, e)) <= tolerance * static_cast<double>(p.n + 1));
  });
}

template <typename T, typename I>
void test_variation(const Kernels<T>& kernels, const SparseInputs<T, I>& p, bool weighted, double tolerance) {
  const auto a = p.sparse(weighted);
  const VariationSum got = kernels.variation(a)(p.n, p.left.data(), p.ld, p.dense.data(), p.ld, a);
  double sum = 0, majorant = 0;
  int64_t entries = 0;
  for_entries(p, [&](int64_t i, int64_t e) {
    const double value = weighted ? static_cast<double>(p.value[e]) : 1.0;
    sum += value * distance(p, i, e);
    majorant += std::abs(value) * distance(p, i, e);
    entries += value != 0;
  });
  EXPECT(got.entries == entries);
  EXPECT(std::abs(got.sum - sum) <= 8 * tolerance * majorant);
}

template <typename T, typename I>
void test_signs(const Kernels<T>& kernels, const SparseInputs<T, I>& p, bool weighted, bool accumulate,
                double tolerance) {
  const T before = T(7), scale = T(-0.5);
  const int64_t ld = p.n + 1;
  const auto a = p.sparse(weighted);
  std::vector<T> out(p.rows == 0 ? 0 : (p.rows - 1) * ld + p.n, before);
  kernels.signs(a)(out.data(), ld, p.n, p.left.data(), p.ld, p.dense.data(), p.ld, scale, accumulate, a);
  std::vector<double> expected(out.size(), accumulate ? static_cast<double>(before) : 0.0);
  for_entries(p, [&](int64_t i, int64_t e) {
    const double value = weighted ? static_cast<double>(p.value[e]) : 1.0;
    for (int64_t k = 0; k < p.n; ++k) {
      const double d = difference(p, i, e, k);
      expected[i * ld + k] += value * ((d > 0) - (d < 0));
    }
  });
  for (int64_t i = 0; i < p.rows; ++i) {
    const double terms = static_cast<double>(p.rowptr[i + 1] + 8);
    for (int64_t k = 0; k < p.n; ++k) {
      const auto at = static_cast<size_t>(i * ld + k);
      EXPECT(std::abs(static_cast<double>(out[at]) + 0.5 * expected[at]) <= tolerance * terms);
    }
    if (i + 1 < p.rows) EXPECT(out[i * ld + p.n] == before);
  }
}

template <typename T, typename I>
void test_sparse(const RowKernels<T>& table) {
  const Kernels<T> kernels{table};
  const double tolerance = sizeof(T) == 8 ? 1e-15 : 5e-7;
  constexpr int64_t kLanes = 64 / sizeof(T);  // of the longest vector
  for (int64_t n = 1; n <= 8 * kLanes + kLanes + 1; ++n) {
    // All shapes at a few widths, at the others the one that has everything.
    const bool all = n <= 3 || n % kLanes <= 1 || n % kLanes == kLanes - 1;
    for (size_t shape = 0; shape < kCounts.size(); ++shape) {
      if (!all && shape != 4) continue;
      SparseInputs<T, I> p(kCounts[shape], n, n % 3, n % 2 == 0 ? 0 : 5, static_cast<uint32_t>(n));
      round_some(p);
      test_distances(kernels, p, tolerance);
      for (bool weighted : {false, true}) {
        test_variation(kernels, p, weighted, tolerance);
        for (bool accumulate : {false, true}) test_signs(kernels, p, weighted, accumulate, tolerance);
      }
    }
  }
  // More entries than are summed without a float64 between them.
  SparseInputs<T, I> p({700, 1, 256, 257}, 5, 0, 0, 3);
  round_some(p);
  for (bool weighted : {false, true}) test_variation(kernels, p, weighted, 4 * tolerance);
}

template <typename T>
void test_columns(const RowKernels<T>& kernels) {
  const double tolerance = sizeof(T) == 8 ? 1e-15 : 5e-7;
  constexpr int64_t n = 3, ld = 150;
  std::vector<T> x{T(0.5), T(-1), T(0)}, columns(n * ld);
  for (size_t i = 0; i < columns.size(); ++i) columns[i] = static_cast<T>(static_cast<int>(i * 7 % 11) - 5);
  for (int64_t count : {0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 130}) {
    std::vector<T> out(count);
    kernels.distances_to_columns(out.data(), count, n, x.data(), columns.data(), ld, T(3));
    for (int64_t j = 0; j < count; ++j) {
      double sum = 0;
      for (int64_t k = 0; k < n; ++k)
        sum += std::abs(static_cast<double>(x[k]) - static_cast<double>(columns[k * ld + j]));
      EXPECT(std::abs(static_cast<double>(out[j]) - 3 * sum) <= tolerance * 100);
    }
  }
}

// NaN stays NaN, but for an entry that is 0, which counts nothing.
template <typename T>
void test_nan(const RowKernels<T>& kernels) {
  const T nan = std::numeric_limits<T>::quiet_NaN();
  const int32_t rowptr[] = {0, 2}, col[] = {0, 1};
  for (int64_t n : {1, 3, 16, 17, 40}) {
    std::vector<T> left(n, T(1)), rows(2 * n, T(2));
    rows[2 * n - 1] = nan;
    T value[] = {T(2), T(0)}, out[2];
    const SparseRows<T, int32_t> a{1, rowptr, col, value};
    VariationSum sum = kernels.variation32(n, left.data(), n, rows.data(), n, a);
    EXPECT(sum.sum == 2.0 * static_cast<double>(n) && sum.entries == 1);
    value[1] = T(-1);
    sum = kernels.variation32(n, left.data(), n, rows.data(), n, a);
    EXPECT(std::isnan(sum.sum) && sum.entries == 2);
    kernels.distances32(out, n, left.data(), n, rows.data(), n, T(1), a);
    EXPECT(out[0] == static_cast<T>(n) && std::isnan(out[1]));
  }
}

}  // namespace

TEST(rows_difference) {
  testing::for_each_isa([](Isa isa) {
    test_sparse<float, int32_t>(row_kernels<float>(isa));
    test_sparse<float, int64_t>(row_kernels<float>(isa));
    test_sparse<double, int32_t>(row_kernels<double>(isa));
    test_sparse<double, int64_t>(row_kernels<double>(isa));
    test_columns(row_kernels<float>(isa));
    test_columns(row_kernels<double>(isa));
    test_nan(row_kernels<float>(isa));
    test_nan(row_kernels<double>(isa));
  });
}
