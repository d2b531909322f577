// Gradients of rows pooled by their scores against plain loops, on every instruction set.
#include <cmath>
#include <vector>

#include "hierpool/scored_pool.h"
#include "testing.h"

using namespace hierpool;
using namespace hierpool::testing;

namespace {

// The projections of the rows of a pool, and its rows as sums over clusters.
template <typename T, typename I>
void check_forward(const ScoredPool& pool, int64_t clusters, double tolerance) {
  const auto *const x = static_cast<const T*>(pool.x), *const weight = static_cast<const T*>(pool.weight);
  const auto *const score = static_cast<const T*>(pool.score), *const shift = weight;
  const auto* const cluster = static_cast<const I*>(pool.cluster);
  std::vector<I> first{0}, node;
  for (int64_t k = 0; k < clusters; ++k) {
    for (int64_t i = 0; i < pool.rows; ++i) {
      if (cluster[i] == k) node.push_back(static_cast<I>(i));
    }
    first.push_back(static_cast<I>(node.size()));
  }
  const auto rows = static_cast<size_t>(pool.rows), sums = static_cast<size_t>(clusters * pool.n);
  std::vector<T> z(rows), again(rows), y(sums), y_again(sums);
  const Members members{clusters, first.data(), node.data()};
  cpu::scored_pool_project(pool, shift, z.data(), threads(1));
  cpu::scored_pool_project(pool, shift, again.data(), threads(3));
  cpu::scored_pool_fwd(pool, members, y.data(), threads(1));
  cpu::scored_pool_fwd(pool, members, y_again.data(), threads(3));
  EXPECT(z == again && y == y_again);
  double norm = 0;
  for (int64_t j = 0; j < pool.n; ++j) norm += static_cast<double>(weight[j]) * weight[j];
  norm = pool.unit ? std::sqrt(norm) : 1;
  std::vector<double> expected(sums);
  for (int64_t i = 0; i < pool.rows; ++i) {
    double sum = shift[0];
    for (int64_t j = 0; j < pool.n; ++j) {
      sum += x[i * pool.n + j] * weight[j] / norm;
      if (cluster[i] >= 0)
        expected[static_cast<size_t>(cluster[i] * pool.n + j)] += 1.5 * score[i] * x[i * pool.n + j];
    }
    EXPECT(std::abs(z[static_cast<size_t>(i)] - sum) < tolerance * static_cast<double>(pool.n));
  }
  for (size_t j = 0; j < sums; ++j) {
    EXPECT(std::abs(y[j] - expected[j]) < tolerance * static_cast<double>(pool.rows + 1));
  }
}

template <typename T, typename I>
void check(int64_t rows, int64_t n, bool tanh, bool unit, bool has_dy) {
  const double tolerance = sizeof(T) == 8 ? 1e-11 : 2e-3;
  constexpr int64_t kClusters = 3;
  uint64_t state = 1;
  const auto draw = [&](int64_t count) {
    std::vector<T> values(static_cast<size_t>(count));
    for (T& v : values) v = static_cast<T>(noise(state));
    return values;
  };
  const std::vector<T> x = draw(rows * n), weight = draw(n), dy = draw(kClusters * n), dscore = draw(rows);
  std::vector<T> score = draw(rows);
  for (T& s : score) s = s / 2 + T(0.5);
  std::vector<I> cluster(static_cast<size_t>(rows));
  for (int64_t i = 0; i < rows; ++i) cluster[i] = static_cast<I>(i % (kClusters + 1) - 1);
  const ScoredPool pool{rows,
                        n,
                        sizeof(T) == 8,
                        sizeof(I) == 8,
                        x.data(),
                        weight.data(),
                        score.data(),
                        cluster.data(),
                        has_dy ? dy.data() : nullptr,
                        dscore.data(),
                        tanh ? Activation::tanh : Activation::sigmoid,
                        unit,
                        1.5};
  std::vector<T> dx(x.size()), dweight(weight.size()), dbias(1);
  cpu::scored_pool_bwd(pool, dx.data(), dweight.data(), dbias.data(), threads(1));
  std::vector<T> again(x.size()), dweight_again(weight.size()), dbias_again(1);
  cpu::scored_pool_bwd(pool, again.data(), dweight_again.data(), dbias_again.data(), threads(3));
  EXPECT(dx == again && dweight == dweight_again && dbias == dbias_again);
  check_forward<T, I>(pool, kClusters, tolerance);
  double norm = 0, bias = 0, along = 0;
  for (T w : weight) norm += static_cast<double>(w) * w;
  norm = unit ? std::sqrt(norm) : 1;
  std::vector<double> direction(static_cast<size_t>(n));
  for (int64_t i = 0; i < rows; ++i) {
    const double s = score[i];
    const T* const g = has_dy && cluster[i] >= 0 ? dy.data() + cluster[i] * n : nullptr;
    double up = dscore[i];
    for (int64_t j = 0; g && j < n; ++j) up += 1.5 * x[i * n + j] * g[j];
    const double dz = up * (tanh ? 1 - s * s : s * (1 - s));
    bias += dz;
    for (int64_t j = 0; j < n; ++j) {
      direction[j] += dz * x[i * n + j];
      EXPECT(std::abs(dx[i * n + j] - (dz * weight[j] / norm + (g ? 1.5 * s * g[j] : 0))) < tolerance);
    }
  }
  for (int64_t j = 0; unit && j < n; ++j) along += direction[j] * weight[j] / norm;
  EXPECT(std::abs(dbias[0] - bias) < tolerance * (1 + std::abs(bias)));
  for (int64_t j = 0; j < n; ++j) {
    EXPECT(std::abs(dweight[j] - (direction[j] - along * weight[j] / norm) / norm) <
           tolerance * static_cast<double>(rows + 1));
  }
}

}  // namespace

TEST(scored_pool) {
  for_each_isa([](cpu::Isa) {
    for (bool tanh : {false, true}) {
      for (bool unit : {false, true}) {
        check<float, int32_t>(30, 7, tanh, unit, true);
        check<double, int64_t>(4100, 64, tanh, unit, true);
        check<double, int32_t>(9, 3, tanh, unit, false);
      }
    }
    check<float, int32_t>(0, 4, true, false, true);
  });
}
