// Gradients of rows pooled in pairs against plain loops, on every instruction set.
#include <algorithm>
#include <cmath>
#include <vector>

#include "hierpool/edge_pool.h"
#include "testing.h"

using namespace hierpool;
using namespace hierpool::testing;

namespace {

// A path of `rows` nodes with loops, of which 3m and 3m + 1 are pairs; 3m + 2 has its loop, or no mate if m is odd.
template <typename T, typename I>
struct Path {
  std::vector<I> rowptr{0}, col, row, mate, first{0}, node;
  explicit Path(I rows) {
    for (I i = 0; i < rows; ++i) {
      for (I j = std::max(I{0}, i - 1); j <= std::min(rows - 1, i + 1); ++j)
        col.push_back(j), row.push_back(i);
      rowptr.push_back(static_cast<I>(col.size()));
      const bool low = i % 3 == 0 && i + 1 < rows, high = i % 3 == 1;
      mate.push_back(low ? i + 1 : high ? i - 1 : i / 3 % 2 ? I{-1} : i);
      node.push_back(i);
      if (!low) first.push_back(i + 1);
    }
  }
};

template <typename T, typename I>
void check(int64_t rows, int64_t n, Activation activation, bool has_score) {
  const double tolerance = sizeof(T) == 8 ? 1e-11 : 2e-3;
  const Path<T, I> path(static_cast<I>(rows));
  const auto entries = std::ssize(path.col), clusters = std::ssize(path.first) - 1;
  uint64_t state = 1;
  const auto draw = [&](int64_t count) {
    std::vector<T> values(static_cast<size_t>(count));
    for (T& v : values) v = static_cast<T>(noise(state));
    return values;
  };
  const std::vector<T> x = draw(rows * n), weight = draw(2 * n), dy = draw(clusters * n),
                       dfactor = draw(rows);
  const std::vector<T> dscore = draw(entries);
  std::vector<T> known = draw(entries), score;
  std::vector<double> total(static_cast<size_t>(rows)), taken(static_cast<size_t>(rows));
  for (T& s : known) s = s / 4 + T(0.5);
  known[static_cast<size_t>(entries) / 2] = known[static_cast<size_t>(entries) / 2 + 1];
  for (T s : known) score.push_back(s + T(0.5));
  EdgePool pool{{rows, sizeof(I) == 8, path.rowptr.data(), path.col.data(), nullptr},
                n,
                clusters,
                sizeof(T) == 8,
                activation,
                x.data(),
                weight.data(),
                known.data(),
                score.data(),
                path.mate.data(),
                path.first.data(),
                path.node.data(),
                dy.data(),
                has_score ? dscore.data() : nullptr,
                dfactor.data()};
  // Plain loops.
  std::vector<double> of_entry(static_cast<size_t>(entries)), expected(x.size()), dw(weight.size());
  std::vector<T> factor_expected(static_cast<size_t>(rows), T(1));
  double db = 0;
  if (has_score) std::copy(dscore.begin(), dscore.end(), of_entry.begin());
  for (int64_t k = 0; k < clusters; ++k) {
    const I i = path.node[path.first[k]], j = path.node[path.first[k + 1] - 1];
    double up = 0, factor = 1;
    for (I m : i == j ? std::vector<I>{i} : std::vector<I>{i, j}) {
      up += dfactor[m];
      for (int64_t c = 0; c < n; ++c) up += static_cast<double>(x[m * n + c]) * dy[k * n + c];
    }
    if (path.mate[i] >= 0) {
      std::vector<int64_t> joins;
      for (int64_t e = 0; e < entries; ++e) {
        if ((path.row[e] == i && path.col[e] == j) || (path.row[e] == j && path.col[e] == i))
          joins.push_back(e);
      }
      const T best = std::max(score[joins.front()], score[joins.back()]);
      factor = best;
      const auto equal =
          std::count_if(joins.begin(), joins.end(), [&](int64_t e) { return score[e] == best; });
      for (int64_t e : joins) of_entry[e] += score[e] == best ? up / static_cast<double>(equal) : 0;
    }
    for (I m : {i, j}) {
      factor_expected[m] = static_cast<T>(factor);
      for (int64_t c = 0; c < n; ++c) expected[m * n + c] = factor * dy[k * n + c];
    }
  }
  for (int64_t e = 0; e < entries; ++e) taken[path.col[e]] += known[e] * of_entry[e];
  for (int64_t e = 0; e < entries; ++e) {
    const double s = known[e], g = of_entry[e];
    const bool softmax = activation == Activation::softmax;
    const double a = softmax ? s * (g - taken[path.col[e]])
                             : g * (activation == Activation::tanh ? 1 - s * s : s * (1 - s));
    const double b = softmax ? 0 : a;  // of the target: what is the same in a column does not matter
    db += a;
    for (int64_t c = 0; c < n; ++c) {
      const int64_t i = path.row[e] * n + c, j = path.col[e] * n + c;
      expected[i] += a * weight[c], expected[j] += b * weight[n + c];
      dw[c] += a * x[i], dw[n + c] += b * x[j];
    }
  }
  for (int64_t count : {1, 3}) {
    const T bias = T(0.5);
    std::vector<T> raw(static_cast<size_t>(entries));
    cpu::edge_linear(pool, &bias, raw.data(), threads(count));
    for (int64_t e = 0; e < entries; ++e) {
      double sum = bias;
      for (int64_t c = 0; c < n; ++c) {
        sum += static_cast<double>(weight[c]) * x[path.row[e] * n + c] +
               static_cast<double>(weight[n + c]) * x[path.col[e] * n + c];
      }
      EXPECT(std::abs(raw[e] - sum) < tolerance);
    }
    std::vector<T> factor(static_cast<size_t>(rows)), dx(x.size()), dweight(weight.size()), dbias(1);
    cpu::edge_factors(pool, factor.data(), threads(count));
    EXPECT(factor == factor_expected);
    cpu::edge_pool_bwd(pool, dx.data(), dweight.data(), dbias.data(), threads(count));
    for (size_t at = 0; at < dx.size(); ++at) EXPECT(std::abs(dx[at] - expected[at]) < tolerance);
    const double scale = tolerance * static_cast<double>(rows + 1);
    for (size_t at = 0; at < dw.size(); ++at) EXPECT(std::abs(dweight[at] - dw[at]) < scale);
    EXPECT(std::abs(dbias[0] - db) < scale);
  }
}

}  // namespace

TEST(edge_pool) {
  for_each_isa([](cpu::Isa) {
    using enum Activation;
    for (const auto activation : {softmax, tanh, sigmoid}) {
      for (bool has_score : {false, true}) {
        check<double, int64_t>(1300, 5, activation, has_score);
        check<float, int32_t>(31, 7, activation, has_score);
      }
    }
  });
}
