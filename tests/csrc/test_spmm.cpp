// Products with a sparse matrix against plain loops, on every instruction set, for one thread and several.
#include <cmath>
#include <random>
#include <vector>

#include "edges.h"
#include "hierpool/spmm.h"
#include "testing.h"

using namespace hierpool;
using namespace hierpool::testing;

namespace {

template <typename T, typename I>
void test_products(int64_t nodes, int64_t edges, int64_t n) {
  const Matrix<I> m = build(draw<I>(nodes, edges, true, 13), 2);
  const std::vector<T> value(m.value.begin(), m.value.end());
  std::vector<T> x(nodes * n), left(x.size());
  std::mt19937 random(17);
  std::uniform_real_distribution<T> uniform(-1, 1);
  for (T& element : x) element = uniform(random);
  for (T& element : left) element = uniform(random);
  for (const bool weighted : {true, false}) {
    const Spmm product{
        {nodes, sizeof(I) == 8, m.rowptr.data(), m.col.data(), weighted ? value.data() : nullptr},
        sizeof(T) == 8,
        n};
    std::vector<T> out(x.size()), sampled(m.col.size()), again(x.size()), sampled_again(m.col.size());
    cpu::spmm_fwd(product, {x.data(), n}, out.data(), threads(1));
    cpu::sampled_product(product, {left.data(), n}, {x.data(), n}, sampled.data(), threads(1));
    cpu::spmm_fwd(product, {x.data(), n}, again.data(), threads(3));
    cpu::sampled_product(product, {left.data(), n}, {x.data(), n}, sampled_again.data(), threads(3));
    EXPECT(out == again && sampled == sampled_again);
    const double tolerance = sizeof(T) == 8 ? 1e-13 : 1e-5;
    for (int64_t i = 0; i < nodes; ++i) {
      const auto begin = static_cast<size_t>(m.rowptr[i]);
      const auto end = static_cast<size_t>(m.rowptr[static_cast<size_t>(i) + 1]);
      for (int64_t k = 0; k < n; ++k) {
        double sum = 0, scale = 0;
        for (size_t e = begin; e < end; ++e) {
          const double term = (weighted ? double(value[e]) : 1) * x[m.col[e] * n + k];
          sum += term, scale += std::abs(term);
        }
        EXPECT(std::abs(out[i * n + k] - sum) <= tolerance * scale);
      }
      for (size_t e = begin; e < end; ++e) {
        double sum = 0;
        for (int64_t k = 0; k < n; ++k) {
          sum += double(left[i * n + k]) * x[m.col[e] * n + k];
        }
        EXPECT(std::abs(sampled[e] - sum) <= tolerance * static_cast<double>(n));
      }
    }
  }
}

template <typename I>
void test_indices() {
  for (const int64_t n : {1, 7, 33}) {
    test_products<float, I>(50, 300, n);
    test_products<double, I>(50, 300, n);
  }
  test_products<float, I>(80000, 400000, 2);  // whose hub has more entries than one task
}

}  // namespace

TEST(spmm) {
  for_each_isa([](cpu::Isa) {
    test_indices<int32_t>();
    test_indices<int64_t>();
  });
}
