// The cross-entropy link loss and its rows against plain loops in double, for every instruction set this machine has.
#include <cstdio>
#include <cstring>
#include <string>

#include "cpu/row_kernels.h"
#include "hierpool/link_bce.h"
#include "soft_pool_inputs.h"
#include "testing.h"

using namespace hierpool;
using namespace hierpool::testing;

namespace {

constexpr double kEps = 1e-7;

double slope(double p) { return p < 1 ? 1 : p > 1 ? 0 : 0.5; }
double log_no(double q) { return q < 0.5 ? std::log1p(kEps - q) : std::log(1 - q + kEps); }
double loss(double p, double w) {
  const double q = std::min(p, 1.0);
  return -w * std::log(q + kEps) - (1 - w) * log_no(q);
}
double by_p(double p, double w) {
  const double q = std::min(p, 1.0);
  return slope(p) * ((1 - w) / (1 - q + kEps) - w / (q + kEps));
}
double by_w(double p) {
  const double q = std::min(p, 1.0);
  return log_no(q) - std::log(q + kEps);
}

void expect_near(double actual, double expected, double tolerance) {
  EXPECT(std::isnan(expected) ? std::isnan(actual) : std::abs(actual - expected) <= tolerance);
}

// Buffers of exactly n elements, lengths around those of vectors, entries of 0 and 1 alone and others.
template <typename T>
void test_rows(cpu::Isa isa) {
  const cpu::RowKernels<T>& rows = cpu::row_kernels<T>(isa);
  const double unit = sizeof(T) == 8 ? 1e-14 : 3e-6;
  const T values[] = {0, T(3e-9), T(0.25), T(0.5), T(0.75), T(0.999), 1, T(1.5), T(1e-4)};
  std::mt19937 random(1);
  for (int64_t n : {0, 1, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 144}) {
    for (bool binary : {true, false}) {
      std::vector<T> p(n), w(n), gradient(n), odds(n);
      double expected = 0;
      for (int64_t i = 0; i < n; ++i) {
        p[i] = values[random() % 9];
        w[i] = binary ? T(random() % 2) : T(static_cast<double>(random() % 9) / 4 - 0.5);
        expected += loss(p[i], w[i]);
      }
      const T eps = static_cast<T>(kEps);
      const double scale = static_cast<double>(n) * 40 + 1;
      expect_near(rows.bce(p.data(), w.data(), n, eps), expected, unit * scale);
      rows.bce_gradient(gradient.data(), p.data(), w.data(), n, eps, T(-2));
      rows.bce_log_odds(odds.data(), p.data(), n, eps, T(3));
      for (int64_t i = 0; i < n; ++i) {
        const double large = 1 / (1 - std::min<double>(p[i], 1) + kEps) + 1 / (p[i] + kEps);
        expect_near(gradient[i], -2 * by_p(p[i], w[i]), unit * 10 * large);
        expect_near(odds[i], 3 * by_w(p[i]), unit * 60);
      }
      if (n == 0) continue;
      const auto at_end = [&](T probability, T weight) {
        p[n - 1] = probability, w[n - 1] = weight;
        return rows.bce(p.data(), w.data(), n, eps);
      };
      const T nan = std::numeric_limits<T>::quiet_NaN();
      EXPECT(std::isnan(at_end(nan, 0)) && std::isnan(at_end(T(0.5), nan)) && std::isnan(at_end(T(-0.5), 0)));
      EXPECT(std::isnan(at_end(T(-0.5), 1)) && std::isfinite(at_end(1, 1)) && std::isfinite(at_end(0, 0)));
    }
  }
  // Nothing but the logarithm of 1 + eps - p is left: it keeps its digits.
  const T p = T(3e-9), w = 0;
  const double exact = -std::log1p(kEps - static_cast<double>(p));
  expect_near(rows.bce(&p, &w, 1, static_cast<T>(kEps)), exact,
              std::abs(exact) * (sizeof(T) == 8 ? 1e-9 : 3e-7));
}

template <typename T>
struct LinkInputs {
  int64_t B, N, K;
  bool symmetric;
  Valid valid;
  std::vector<T> s, adj;
  std::vector<uint8_t> mask;
  std::vector<int64_t> num_nodes;

  LinkInputs(int64_t b, int64_t n, int64_t k, bool same, Valid v, double density)
      : B(b), N(n), K(k), symmetric(same), valid(v) {
    std::mt19937 random(3);
    std::uniform_real_distribution<double> unit(0.0, 1.0);
    for (int64_t g = 0; g < B; ++g) {
      num_nodes.push_back(g == 0 || v != Valid::count ? N : static_cast<int64_t>(random() % (N + 1)));
      for (int64_t i = 0; i < N; ++i)
        mask.push_back(v == Valid::mask ? unit(random) < 0.7 : i < num_nodes[g]);
    }
    const T nan = std::numeric_limits<T>::quiet_NaN();
    for (int64_t i = 0; i < B * N; ++i) {
      for (int64_t c = 0; c < K; ++c)
        s.push_back(mask[i] ? T(unit(random) / std::sqrt(static_cast<double>(K))) : nan);
    }
    adj.resize(B * N * N);
    for (int64_t g = 0; g < B; ++g) {
      for (int64_t i = 0; i < N; ++i) {
        for (int64_t j = 0; j < N; ++j) {
          T& value = adj[(g * N + i) * N + j];
          value = unit(random) < density ? T(unit(random) < 0.5 ? 1 : unit(random)) : T(0);
          if (symmetric && j < i) value = adj[(g * N + j) * N + i];
          if (!mask[g * N + i] || !mask[g * N + j]) value = nan;
        }
      }
    }
  }

  LinkBce arguments() const {
    LinkBce args{};
    args.batch.B = B, args.batch.R = 1, args.batch.N = N, args.batch.K = K;
    args.batch.is_double = sizeof(T) == 8;
    args.batch.s_type = args.batch.x_type = kTypeOf<T>;
    if (valid == Valid::mask) args.batch.mask = mask.data();
    if (valid == Valid::count) args.batch.num_nodes = num_nodes.data();
    args.s = s.data(), args.s_stride_b = N * K, args.s_stride_n = K;
    args.symmetric = symmetric;
    args.eps = kEps;
    args.divisor = LinkDivisor::valid;
    return args;
  }
  DenseAdjacency dense() const { return {kTypeOf<T>, adj.data(), N * N, 0, N}; }
};

struct Values {
  double loss = 0;
  std::vector<double> ds, dadj;
};

template <typename T>
Values plain(const LinkInputs<T>& in, double dloss) {
  const auto [B, N, K] = std::tuple(in.B, in.N, in.K);
  Values out{0, std::vector<double>(B * N * K), std::vector<double>(B * N * N)};
  double pairs = 0;
  for (int64_t g = 0; g < B; ++g) {
    const double n = static_cast<double>(std::count(in.mask.data() + g * N, in.mask.data() + (g + 1) * N, 1));
    pairs += n * n;
  }
  const double divisor = std::max(pairs, 1.0);
  for (int64_t row = 0; row < B * N; ++row) {
    for (int64_t j = 0; j < N; ++j) {
      const int64_t other = row / N * N + j;
      if (!in.mask[row] || !in.mask[other]) continue;
      const T *a = in.s.data() + row * K, *b = in.s.data() + other * K;
      double p = 0;
      for (int64_t k = 0; k < K; ++k) p += static_cast<double>(a[k]) * b[k];
      const double w = in.adj[row * N + j], g = dloss / divisor * by_p(p, w);
      out.loss += loss(p, w) / divisor;
      out.dadj[row * N + j] = dloss / divisor * by_w(p);
      for (int64_t k = 0; k < K; ++k) {
        out.ds[row * K + k] += g * b[k];
        out.ds[other * K + k] += g * a[k];
      }
    }
  }
  return out;
}

template <typename T>
void expect_close(const std::vector<T>& actual, const std::vector<double>& expected) {
  double scale = 1e-300;
  for (double value : expected) scale = std::max(scale, std::abs(value));
  EXPECT(actual.size() == expected.size());
  for (size_t i = 0; i < expected.size(); ++i)
    expect_near(actual[i], expected[i], scale * (sizeof(T) == 8 ? 1e-10 : 1e-4));
}

// The same batch without padding: entries that are not zero, in compressed rows.
template <typename T, typename I>
struct Ragged {
  std::vector<T> s, value;
  std::vector<I> rowptr{0}, col;
  std::vector<int64_t> ptr{0}, node, entry;  // where a row and an entry lie in the padded batch

  explicit Ragged(const LinkInputs<T>& in) {
    const int64_t N = in.N;
    for (int64_t g = 0; g < in.B; ++g) {
      for (int64_t i = 0; i < N; ++i)
        if (in.mask[g * N + i]) node.push_back(g * N + i);
      ptr.push_back(static_cast<int64_t>(node.size()));
    }
    for (int64_t g = 0; g < in.B; ++g) {
      for (int64_t i = ptr[g]; i < ptr[g + 1]; ++i) {
        s.insert(s.end(), in.s.data() + node[i] * in.K, in.s.data() + (node[i] + 1) * in.K);
        for (int64_t j = ptr[g]; j < ptr[g + 1]; ++j) {
          const int64_t place = node[i] * N + node[j] % N;
          if (in.adj[place] == 0) continue;
          col.push_back(static_cast<I>(j)), value.push_back(in.adj[place]), entry.push_back(place);
        }
        rowptr.push_back(static_cast<I>(col.size()));
      }
    }
  }
};

template <typename T>
struct Got {
  T loss = 0;
  std::vector<T> ds, dadj;
};

template <typename T>
Got<T> run_dense(const LinkInputs<T>& in, T dloss, const Runtime& runtime) {
  Got<T> got{0, std::vector<T>(in.s.size(), 7), std::vector<T>(in.adj.size(), 7)};
  cpu::link_bce_fwd(in.arguments(), in.dense(), &got.loss, runtime);
  const LinkBceBackward args{in.arguments(), &dloss, got.ds.data(), got.dadj.data()};
  cpu::link_bce_bwd(args, in.dense(), runtime);
  return got;
}

template <typename T, typename I>
Got<T> run_ragged(const LinkInputs<T>& in, const Ragged<T, I>& graph, T dloss, const Runtime& runtime) {
  LinkBce link = in.arguments();
  link.batch.ptr = graph.ptr.data(), link.batch.mask = nullptr, link.batch.num_nodes = nullptr;
  link.s = graph.s.data();
  CsrAdjacency adjacency{};
  adjacency.a = {static_cast<int64_t>(graph.node.size()), sizeof(I) == 8, graph.rowptr.data(),
                 graph.col.data(), graph.value.data()};
  Got<T> got{0, std::vector<T>(graph.s.size(), 7), std::vector<T>(graph.col.size(), 7)};
  cpu::link_bce_fwd(link, adjacency, &got.loss, runtime);
  cpu::link_bce_bwd(LinkBceBackward{link, &dloss, got.ds.data(), got.dadj.data()}, adjacency, runtime);
  return got;
}

template <typename T>
bool same_bits(const Got<T>& a, const Got<T>& b) {
  const auto same = [](const std::vector<T>& x, const std::vector<T>& y) {
    return x.empty() || std::memcmp(x.data(), y.data(), x.size() * sizeof(T)) == 0;
  };
  return a.loss == b.loss && same(a.ds, b.ds) && same(a.dadj, b.dadj);
}

template <typename T, typename I>
void test_batch(const LinkInputs<T>& in) {
  const T dloss = T(-1.5);
  const Values expected = plain(in, dloss);
  const double tolerance = (std::abs(expected.loss) + 1) * (sizeof(T) == 8 ? 1e-12 : 1e-5);
  const Ragged<T, I> graph(in);
  std::vector<double> ds, dadj;  // of the rows and the entries of the ragged batch
  for (int64_t node : graph.node)
    ds.insert(ds.end(), expected.ds.data() + node * in.K, expected.ds.data() + (node + 1) * in.K);
  for (int64_t entry : graph.entry) dadj.push_back(expected.dadj[entry]);
  for_each_isa([&](cpu::Isa) {
    const Got<T> dense = run_dense(in, dloss, runtime(1, false));
    expect_near(dense.loss, expected.loss, tolerance);
    expect_close(dense.ds, expected.ds);
    expect_close(dense.dadj, expected.dadj);
    EXPECT(same_bits(dense, run_dense(in, dloss, runtime(3, false))));
    expect_close(run_dense(in, dloss, runtime(2, true)).ds, expected.ds);

    const Got<T> ragged = run_ragged(in, graph, dloss, runtime(1, false));
    expect_near(ragged.loss, expected.loss, tolerance);
    expect_close(ragged.ds, ds);
    expect_close(ragged.dadj, dadj);
    EXPECT(same_bits(ragged, run_ragged(in, graph, dloss, runtime(3, false))));
  });
}

template <typename T, typename I>
void test_batches() {
  for (bool symmetric : {true, false}) {
    test_batch<T, I>({1, 1, 1, symmetric, Valid::all, 1.0});
    test_batch<T, I>({3, 9, 4, symmetric, Valid::mask, 0.5});
    test_batch<T, I>({2, 30, 33, symmetric, Valid::count, 0.2});
    test_batch<T, I>({0, 4, 3, symmetric, Valid::all, 0.5});
    test_batch<T, I>({2, 0, 3, symmetric, Valid::all, 0.5});
    // Around the number of nodes of a block, and three blocks.
    test_batch<T, I>({1, 143, 5, symmetric, Valid::all, 0.1});
    test_batch<T, I>({2, 220, 7, symmetric, Valid::mask, 0.1});
    test_batch<T, I>({1, 300, 17, symmetric, Valid::all, 0.02});
  }
}

}  // namespace

TEST(link_bce_rows) {
  for_each_isa([](cpu::Isa isa) {
    test_rows<float>(isa);
    test_rows<double>(isa);
  });
}

TEST(link_bce) {
  test_batches<float, int32_t>();
  test_batches<double, int64_t>();
}
