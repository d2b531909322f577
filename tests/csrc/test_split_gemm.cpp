// Products of split matrices against plain loops, around the sizes of tiles and blocks. Arrays have exactly the size of the
// contract, so that the address sanitizer sees every access beyond them.
#include <cmath>
#include <limits>
#include <random>

#include "cpu/half.h"
#include "cpu/split_gemm.h"
#include "testing.h"

using namespace hierpool;
using namespace hierpool::cpu;

namespace {

enum class Layout { rows, columns, rows_of_bf16 };

// Numbers of `terms` brain floats, or any.
float number(std::mt19937& random, int terms) {
  std::uniform_real_distribution<float> unit(-1.0f, 1.0f);
  const float x = unit(random);
  if (terms != 1) return x;
  return to_float(to_bfloat16(x));
}

struct Product {
  int64_t m, n, k;
  Layout layout;
  Terms terms;
  std::vector<float> a, b, c;
  std::vector<BFloat16> half;  // A as bf16
  int64_t lda, ldb, ldc;

  Product(int64_t m, int64_t n, int64_t k, Layout layout, Terms terms)
      : m(m), n(n), k(k), layout(layout), terms(terms), ldb(n + 3), ldc(n + 2) {
    std::mt19937 random(static_cast<unsigned>(m * 31 + n * 7 + k));
    const bool by_columns = layout == Layout::columns;
    lda = (by_columns ? m : k) + 1;
    a.resize(size(by_columns ? k : m, lda, by_columns ? m : k));
    b.resize(size(k, ldb, n));
    c.resize(size(m, ldc, n));
    for (float& x : a) x = number(random, terms.a);
    for (float& x : b) x = number(random, terms.b);
    for (float& x : c) x = number(random, 0);
    for (float x : a) half.push_back(to_bfloat16(x));
  }

  static size_t size(int64_t rows, int64_t ld, int64_t width) {
    return static_cast<size_t>(rows == 0 ? 0 : (rows - 1) * ld + width);
  }
  float a_at(int64_t i, int64_t p) const {
    return a[static_cast<size_t>(layout == Layout::columns ? p * lda + i : i * lda + p)];
  }
  SplitProduct factors() const {
    const bool by_columns = layout == Layout::columns;
    SplitFactor left{a.data(), DType::f32, by_columns ? 1 : lda, by_columns ? lda : 1};
    if (layout == Layout::rows_of_bf16) left = {half.data(), DType::bf16, lda, 1};
    return {left, b.data(), ldb, k, terms};
  }
  // Adds the sum of row i and column j, and of its sizes.
  void add(int64_t i, int64_t j, double& sum, double& size) const {
    for (int64_t q = 0; q < k; ++q) {
      const double product = double{a_at(i, q)} * b[static_cast<size_t>(q * ldb + j)];
      sum += product, size += std::abs(product);
    }
  }
};

// The sum of products whose C has the shape of the first.
void test_sum(SplitGemm gemm, const std::vector<Product>& products, bool accumulate) {
  const Product& first = products.front();
  std::vector<float> c = first.c;
  std::vector<SplitProduct> factors;
  bool exact = true;  // one term is, the second leaves 2^-16 of an entry; sums are rounded to float32
  for (const Product& p : products) {
    factors.push_back(p.factors());
    exact = exact && p.terms.a == 1 && p.terms.b == 1;
  }
  const double tolerance = (exact ? 0 : 0x1p-15) + 1e-6;
  gemm(first.m, first.n, factors.data(), static_cast<int64_t>(factors.size()), c.data(), first.ldc,
       accumulate);
  for (size_t at = 0; at < c.size(); ++at) {
    const int64_t i = static_cast<int64_t>(at) / first.ldc, j = static_cast<int64_t>(at) % first.ldc;
    if (j >= first.n) {
      EXPECT(c[at] == first.c[at]);
      continue;
    }
    double sum = accumulate ? first.c[at] : 0, size = std::abs(sum);
    for (const Product& p : products) p.add(i, j, sum, size);
    EXPECT(std::abs(c[at] - sum) <= tolerance * size);
  }
}

void test_infinity(SplitGemm gemm) {
  for (int terms : {1, 2}) {
    Product p(16, 16, 32, Layout::rows, {terms, 1});
    for (float& x : p.b) x = 1.0f;
    p.a[0] = std::numeric_limits<float>::infinity();
    p.a[static_cast<size_t>(p.lda)] = std::numeric_limits<float>::quiet_NaN();
    const SplitProduct factors = p.factors();
    gemm(p.m, p.n, &factors, 1, p.c.data(), p.ldc, false);
    EXPECT(p.c[0] == std::numeric_limits<float>::infinity());
    EXPECT(std::isnan(p.c[static_cast<size_t>(p.ldc)]));
    EXPECT(std::isfinite(p.c[static_cast<size_t>(2 * p.ldc)]));
  }
}

}  // namespace

TEST(split_gemm_equals_loops) {
  hierpool::testing::for_each_isa([](Isa isa) {
    const SplitGemm gemm = split_gemm(isa);
    EXPECT((gemm != nullptr) == (isa == Isa::amx));
    if (gemm == nullptr) return;
    const int64_t shapes[][3] = {{1, 1, 1},    {16, 16, 32},   {15, 17, 31},   {17, 33, 33}, {33, 48, 64},
                                 {70, 31, 95}, {40, 300, 513}, {32, 256, 512}, {5, 270, 3},  {31, 7, 1100}};
    for (const auto& [m, n, k] : shapes) {
      for (Layout layout : {Layout::rows, Layout::columns, Layout::rows_of_bf16}) {
        for (Terms terms : {Terms{1, 1}, Terms{1, 2}, Terms{2, 1}, Terms{2, 2}}) {
          if (layout == Layout::rows_of_bf16 && terms.a == 2) continue;  // one term is all there is
          const Product product(m, n, k, layout, terms);
          for (bool accumulate : {false, true}) test_sum(gemm, {product}, accumulate);
        }
      }
    }
    // Sums whose parts fit together, and sums of more.
    for (int64_t k : {40, 300, 700}) {
      for (bool accumulate : {false, true}) {
        test_sum(
            gemm,
            {Product(37, 41, k, Layout::rows, {1, 1}), Product(37, 41, 125, Layout::columns, {2, 2}),
             Product(37, 41, 0, Layout::rows, {1, 2}), Product(37, 41, k + 9, Layout::rows_of_bf16, {1, 2})},
            accumulate);
      }
    }
    test_infinity(gemm);
  });
}
