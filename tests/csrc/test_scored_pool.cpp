// Gradients of rows pooled by their scores against plain loops, on every instruction set.
#include <cmath>
#include <vector>

#include "hierpool/scored_pool.h"
#include "testing.h"

using namespace hierpool;
using namespace hierpool::testing;

namespace {

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
                        tanh,
                        unit,
                        1.5};
  std::vector<T> dx(x.size()), dweight(weight.size()), dbias(1);
  cpu::scored_pool_bwd(pool, dx.data(), dweight.data(), dbias.data(), threads(1));
  std::vector<T> again(x.size()), dweight_again(weight.size()), dbias_again(1);
  cpu::scored_pool_bwd(pool, again.data(), dweight_again.data(), dbias_again.data(), threads(3));
  EXPECT(dx == again && dweight == dweight_again && dbias == dbias_again);
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
        check<double, int64_t>(1300, 64, tanh, unit, true);
        check<double, int32_t>(9, 3, tanh, unit, false);
      }
    }
    check<float, int32_t>(0, 4, true, false, true);
  });
}
