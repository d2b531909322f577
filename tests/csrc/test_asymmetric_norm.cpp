// The balance term of the asymmetric Cheeger cut and its gradient against plain loops, on every instruction set.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "hierpool/asymmetric_norm.h"
#include "testing.h"

using namespace hierpool;
using namespace hierpool::testing;

namespace {

template <typename T>
struct Inputs {
  int64_t B, N, K;
  std::vector<T> s, dnorm;
  std::vector<uint8_t> mask;

  // Entries are rounded, so that many are equal.
  Inputs(int64_t B, int64_t N, int64_t K) : B(B), N(N), K(K) {
    uint64_t state = static_cast<uint64_t>(N * 31 + K);
    for (int64_t i = 0; i < B * N; ++i) mask.push_back(noise(state) > -0.6);
    for (int64_t i = 0; i < B * N * K; ++i) {
      const T value = static_cast<T>(std::round(16 * noise(state)) / 16);
      s.push_back(mask[i / K] ? value : std::numeric_limits<T>::quiet_NaN());
    }
    for (int64_t b = 0; b < B; ++b) dnorm.push_back(static_cast<T>(noise(state)));
  }

  AsymmetricNorm args() const {
    constexpr DType type = sizeof(T) == 8 ? DType::f64 : DType::f32;
    PoolBatch batch{};
    batch.B = B, batch.R = 1, batch.N = N, batch.K = K;
    batch.is_double = sizeof(T) == 8;
    batch.s_type = batch.x_type = type;
    batch.mask = mask.data();
    batch.inverse_temperature = 1;
    batch.given = true;
    return {batch, s.data(), N * K, K};
  }
};

template <typename T>
struct Results {
  std::vector<T> norm, quantile, slope, ds;
  std::vector<int64_t> row;
  bool operator==(const Results&) const = default;
};

template <typename T>
Results<T> run(const Inputs<T>& p, const Runtime& runtime) {
  const int64_t columns = p.B * p.K;
  Results<T> r{std::vector<T>(p.B), std::vector<T>(columns), std::vector<T>(columns),
               std::vector<T>(p.s.size(), T(7)), std::vector<int64_t>(columns)};
  cpu::asymmetric_norm_fwd({p.args(), r.norm.data(), r.quantile.data(), r.row.data(), r.slope.data()},
                           runtime);
  cpu::asymmetric_norm_bwd(
      {p.args(), p.dnorm.data(), r.quantile.data(), r.row.data(), r.slope.data(), r.ds.data()}, runtime);
  return r;
}

template <typename T>
void check(const Inputs<T>& p, const Results<T>& r) {
  const double tolerance = sizeof(T) == 8 ? 1e-12 : 2e-5;
  for (int64_t b = 0; b < p.B; ++b) {
    double norm = 0, size = 0;
    const double upstream = static_cast<double>(p.dnorm[b]);
    for (int64_t k = 0; k < p.K; ++k) {
      std::vector<int64_t> rows;
      for (int64_t i = 0; i < p.N; ++i) {
        if (p.mask[b * p.N + i]) rows.push_back(i);
      }
      const auto entry = [&](int64_t i) { return static_cast<double>(p.s[(b * p.N + i) * p.K + k]); };
      if (rows.empty()) {
        EXPECT(r.quantile[b * p.K + k] == 0);
        EXPECT(r.row[b * p.K + k] == -1);
        continue;
      }
      std::vector<double> ordered;
      for (int64_t i : rows) ordered.push_back(entry(i));
      std::sort(ordered.begin(), ordered.end(), std::greater<>());
      const auto n = static_cast<int64_t>(rows.size());
      const double q = ordered[std::min(n / p.K, n - 1)];
      const int64_t first = *std::find_if(rows.begin(), rows.end(), [&](int64_t i) { return entry(i) == q; });
      EXPECT(static_cast<double>(r.quantile[b * p.K + k]) == q);
      EXPECT(r.row[b * p.K + k] == first);
      double slope = 0;
      const auto weight = [&](int64_t i) { return entry(i) >= q ? static_cast<double>(p.K - 1) : -1.0; };
      for (int64_t i : rows) norm += weight(i) * (entry(i) - q), size += p.K, slope -= weight(i);
      EXPECT(static_cast<double>(r.slope[b * p.K + k]) == slope);
      for (int64_t i : rows) {
        const double expected = upstream * (weight(i) + (i == first ? slope : 0));
        EXPECT(std::abs(static_cast<double>(r.ds[(b * p.N + i) * p.K + k]) - expected) <
               tolerance * (1 + std::abs(expected)));
      }
    }
    EXPECT(std::abs(static_cast<double>(r.norm[b]) - norm) <= tolerance * (1 + size));
  }
  for (size_t i = 0; i < p.mask.size(); ++i) {
    for (int64_t k = 0; k < p.K; ++k) EXPECT(p.mask[i] || r.ds[i * p.K + k] == 0);
  }
}

template <typename T>
void check_all() {
  // About the sizes of vectors, of blocks of columns and of pieces of a graph.
  const int64_t shapes[][3] = {{1, 1, 1},    {3, 9, 4}, {2, 70, 17}, {1, 300, 35},
                               {2, 5000, 5}, {2, 0, 3}, {0, 4, 3}};
  for (const auto& [B, N, K] : shapes) {
    const Inputs<T> p(B, N, K);
    const Results<T> r = run(p, threads(1));
    check(p, r);
    EXPECT(run(p, threads(3)) == r);
  }
}

}  // namespace

TEST(asymmetric_norm) {
  for_each_isa([](cpu::Isa) {
    check_all<float>();
    check_all<double>();
  });
}
