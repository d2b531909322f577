// The last step of MinCut and DMoN pooling: losses and adjacency against plain loops, gradients against differences.
#include <algorithm>
#include <cmath>
#include <vector>

#include "hierpool/cut_pool.h"
#include "testing.h"

using namespace hierpool;
using namespace hierpool::testing;

namespace {

constexpr int64_t kScalars = 6, kNodes = 0, kCut = 2, kTotal = 4;
constexpr CutKind kKinds[] = {CutKind::mincut, CutKind::dmon, CutKind::dmon_crossed};

// All sums one after another, as the differences need them.
struct Sums {
  int64_t graphs, k;
  std::vector<double> values;

  Sums(int64_t graphs, int64_t k, bool empty) : graphs(graphs), k(k) {
    uint64_t state = 7;
    values.resize(graphs * (2 * k * k + 2 * k + kScalars));
    for (double& v : values) v = 1 + noise(state) / 2;
    if (!empty) return;
    // The last graph has no nodes, and the one before no edges.
    for (int64_t b = graphs - 2; b < graphs; ++b) std::fill_n(adj() + b * k * k, k * k, 0.0);
    std::fill_n(gram() + (graphs - 1) * k * k, k * k, 0.0);
    std::fill_n(vectors() + (graphs - 1) * 2 * k, 2 * k, 0.0);
    std::fill_n(vectors() + (graphs - 2) * 2 * k + k, k, 0.0);
    for (int64_t b = graphs - 2; b < graphs; ++b)
      scalars()[b * kScalars + kCut] = scalars()[b * kScalars + kTotal] = 0;
    scalars()[(graphs - 1) * kScalars + kNodes] = 0;
  }

  double* adj() { return values.data(); }
  double* gram() { return adj() + graphs * k * k; }
  double* vectors() { return gram() + graphs * k * k; }
  double* scalars() { return vectors() + graphs * 2 * k; }
  CutSums sums() { return {adj(), gram(), vectors(), scalars()}; }
};

struct Results {
  std::vector<double> out, saved;
  double losses[3];
};

Results forward(Sums& s, CutKind kind) {
  Results r{
      std::vector<double>(s.graphs * s.k * s.k), std::vector<double>(s.graphs * (s.k + cpu::kCutSaved)), {}};
  void* losses[] = {&r.losses[0], &r.losses[1], &r.losses[2]};
  cpu::cut_pool_fwd({s.graphs, s.k, true, kind}, s.sums(), r.out.data(), losses, r.saved.data(), threads(1));
  return r;
}

double norm(const double* x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += x[i] * x[i];
  return std::sqrt(sum);
}

double over(double numerator, double denominator) { return denominator == 0 ? 0 : numerator / denominator; }

void check_values(Sums& s, CutKind kind) {
  const Results r = forward(s, kind);
  const int64_t K = s.k;
  const auto B = static_cast<double>(s.graphs);
  double fit = 0, ortho = 0, cluster = 0;
  for (int64_t b = 0; b < s.graphs; ++b) {
    const double *adj = s.adj() + b * K * K, *gram = s.gram() + b * K * K, *size = s.vectors() + b * 2 * K,
                 *scalars = s.scalars() + b * kScalars;
    std::vector<double> degree(K);
    double trace = 0;
    for (int64_t i = 0; i < K; ++i) {
      trace += adj[i * K + i];
      for (int64_t j = 0; j < K; ++j) degree[i] += i == j ? 0 : adj[i * K + j];
    }
    for (int64_t i = 0; i < K; ++i) {
      for (int64_t j = 0; j < K; ++j) {
        const double scale = std::sqrt(degree[i] * degree[j]);
        const double expected = i == j ? 0 : over(adj[i * K + j], scale);
        EXPECT(std::abs(r.out[(b * K + i) * K + j] - expected) < 1e-12);
      }
    }
    if (kind == CutKind::mincut) {
      fit -= over(trace, scalars[kCut]) / B;
    } else {
      const double volume = norm(size + K, K), total = scalars[kTotal];
      fit -= over(trace - over(volume * volume, total), total) / B;
    }
    const double length = norm(gram, K * K);
    double apart = 0;
    for (int64_t i = 0; i < K * K; ++i) {
      const double d = over(gram[i], length) - (i % (K + 1) == 0 ? 1 / std::sqrt(static_cast<double>(K)) : 0);
      apart += d * d;
    }
    ortho += length == 0 ? 0 : std::sqrt(apart) / B;
    const double nodes = scalars[kNodes];
    if (kind == CutKind::dmon && nodes > 0) {
      cluster += (norm(size, K) / nodes * std::sqrt(static_cast<double>(K)) - 1) / B;
    }
    for (int64_t c = 0; kind == CutKind::dmon_crossed && c < s.graphs; ++c) {
      const double others = s.scalars()[c * kScalars + kNodes];
      cluster += over(norm(size, K), others) * std::sqrt(static_cast<double>(K)) / (B * B);
    }
  }
  if (kind == CutKind::dmon_crossed) cluster -= 1;
  EXPECT(std::abs(r.losses[0] - fit) < 1e-12);
  EXPECT(std::abs(r.losses[1] - ortho) < 1e-12);
  EXPECT(std::abs(r.losses[2] - (kind == CutKind::mincut ? 0 : cluster)) < 1e-12);
}

// The weighted sum of all outputs.
double objective(Sums& s, CutKind kind, const std::vector<double>& dout, const double* dlosses) {
  const Results r = forward(s, kind);
  double sum = 0;
  for (size_t i = 0; i < dout.size(); ++i) sum += dout[i] * r.out[i];
  for (int i = 0; i < 3; ++i) sum += dlosses[i] * r.losses[i];
  return sum;
}

void check_gradients(Sums& s, CutKind kind) {
  const Results r = forward(s, kind);
  uint64_t state = 3;
  std::vector<double> dout(r.out.size());
  for (double& v : dout) v = noise(state) / 2;
  const double dlosses[] = {0.7, -1.3, 0.4};
  Sums grads = s;
  cpu::cut_pool_bwd({s.graphs, s.k, true, kind}, s.sums(), r.out.data(), r.saved.data(), dout.data(), dlosses,
                    grads.adj(), grads.gram(), kind == CutKind::mincut ? nullptr : grads.vectors(),
                    grads.scalars(), threads(1));
  // Where that of the Gram matrix is not needed.
  Sums rest = grads;
  cpu::cut_pool_bwd({s.graphs, s.k, true, kind}, s.sums(), r.out.data(), r.saved.data(), dout.data(), dlosses,
                    rest.adj(), nullptr, kind == CutKind::mincut ? nullptr : rest.vectors(), rest.scalars(),
                    threads(1));
  EXPECT(rest.values == grads.values);
  const double step = 1e-6;
  for (size_t i = 0; i < s.values.size(); ++i) {
    const double* place = s.values.data() + i;
    if (kind == CutKind::mincut && place >= s.vectors() && place < s.scalars()) continue;
    // The number of nodes is no variable.
    if (place >= s.scalars() && (place - s.scalars()) % kScalars == kNodes) continue;
    const double value = s.values[i];
    s.values[i] = value + step;
    const double more = objective(s, kind, dout, dlosses);
    s.values[i] = value - step;
    const double less = objective(s, kind, dout, dlosses);
    s.values[i] = value;
    EXPECT(std::abs(grads.values[i] - (more - less) / (2 * step)) < 1e-7);
  }
}

}  // namespace

TEST(cut_pool) {
  for (CutKind kind : kKinds) {
    for (int64_t k : {1, 2, 5, 9}) {
      Sums full(3, k, false), some(4, k, true);
      check_values(full, kind);
      check_values(some, kind);
      check_gradients(full, kind);
    }
    Sums none(0, 3, false);
    forward(none, kind);
  }
}
