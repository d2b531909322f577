// The total variation over edges and its gradients against plain loops, dense and sparse, on every instruction set.
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "hierpool/total_variation.h"
#include "testing.h"

using namespace hierpool;
using namespace hierpool::testing;

namespace {

// Valid nodes of all graphs and their entries, in the order of their rows.
template <typename T>
struct Inputs {
  int64_t B, N, K;
  std::vector<uint8_t> mask;
  std::vector<T> s, a, scale;

  Inputs(int64_t B, int64_t N, int64_t K, double density, bool holes) : B(B), N(N), K(K) {
    uint64_t state = static_cast<uint64_t>(N + K);
    for (int64_t i = 0; i < B * N; ++i) mask.push_back(!holes || noise(state) > -0.4);
    const T nan = std::numeric_limits<T>::quiet_NaN();
    for (int64_t i = 0; i < B * N; ++i) {
      for (int64_t k = 0; k < K; ++k) {
        const T element = static_cast<T>(std::round(4 * noise(state)));
        s.push_back(mask[i] ? element : nan);
      }
    }
    for (int64_t i = 0; i < B * N * N; ++i) {
      const int64_t b = i / (N * N), row = i / N % N, column = i % N;
      const T value = noise(state) < 2 * density - 1 ? static_cast<T>(noise(state)) : T(0);
      a.push_back(valid(b, row) && valid(b, column) ? value : nan);
    }
    for (int64_t b = 0; b < B; ++b) scale.push_back(static_cast<T>(noise(state)));
  }

  bool valid(int64_t b, int64_t i) const { return mask[b * N + i] != 0; }
  double row(int64_t b, int64_t i, int64_t k) const { return static_cast<double>(s[(b * N + i) * K + k]); }
  double entry(int64_t b, int64_t i, int64_t j) const { return static_cast<double>(a[(b * N + i) * N + j]); }
  double distance(int64_t b, int64_t i, int64_t j) const {
    double sum = 0;
    for (int64_t k = 0; k < K; ++k) sum += std::abs(row(b, i, k) - row(b, j, k));
    return sum;
  }
  DenseVariation args() const {
    DenseVariation out{};
    out.batch.B = B, out.batch.N = N, out.batch.K = K, out.batch.R = 1;
    out.batch.is_double = sizeof(T) == 8;
    out.batch.s_type = out.batch.x_type = type();
    out.batch.mask = mask.data();
    out.s = s.data(), out.s_stride_b = N * K, out.s_stride_n = K;
    return out;
  }
  static DType type() { return sizeof(T) == 8 ? DType::f64 : DType::f32; }
};

template <typename T>
struct Results {
  std::vector<T> variation, entries, ds, da;
  bool operator==(const Results&) const = default;
};

template <typename T>
void expect_close(T got, double expected, double scale) {
  const double tolerance = sizeof(T) == 8 ? 1e-14 : 2e-6;
  EXPECT(std::abs(static_cast<double>(got) - expected) <= tolerance * (1 + scale));
}

template <typename T>
void check(const Inputs<T>& p, const Results<T>& r) {
  for (int64_t b = 0; b < p.B; ++b) {
    double sum = 0, majorant = 0;
    int64_t count = 0;
    const double scale = static_cast<double>(p.scale[b]);
    for (int64_t i = 0; i < p.N; ++i) {
      std::vector<double> ds(p.K);
      for (int64_t j = 0; j < p.N; ++j) {
        const double da = static_cast<double>(r.da[(b * p.N + i) * p.N + j]);
        if (!p.valid(b, i) || !p.valid(b, j)) {
          EXPECT(da == 0);
          continue;
        }
        const double distance = p.distance(b, i, j), value = p.entry(b, i, j);
        expect_close(static_cast<T>(da), scale * distance, distance);
        sum += value * distance, majorant += std::abs(value) * distance, count += value != 0;
        for (int64_t k = 0; k < p.K; ++k) {
          const double d = p.row(b, i, k) - p.row(b, j, k);
          ds[k] += scale * (value + p.entry(b, j, i)) * ((d > 0) - (d < 0));
        }
      }
      for (int64_t k = 0; k < p.K; ++k) expect_close(r.ds[(b * p.N + i) * p.K + k], ds[k], 8);
    }
    expect_close(r.variation[b], sum, majorant);
    EXPECT(r.entries[b] == static_cast<T>(count));
  }
}

template <typename T>
Results<T> dense(const Inputs<T>& p, const Runtime& runtime) {
  Results<T> r{std::vector<T>(p.scale.size()), std::vector<T>(p.scale.size()),
               std::vector<T>(p.s.size(), T(7)), std::vector<T>(p.a.size(), T(7))};
  const DenseVariation args = p.args();
  const DenseAdjacency adjacency{p.type(), p.a.data(), p.N * p.N, 0, p.N};
  cpu::total_variation_fwd(args, adjacency, r.variation.data(), r.entries.data(), runtime);
  cpu::total_variation_bwd(args, adjacency, p.scale.data(), r.ds.data(), r.da.data(), runtime);
  return r;
}

// The valid nodes alone, as one matrix and its transpose; results are laid out as the dense ones.
template <typename T, typename I>
Results<T> sparse(const Inputs<T>& p, const Runtime& runtime) {
  Results<T> r{
      std::vector<T>(p.scale.size()), std::vector<T>(p.scale.size()), std::vector<T>(p.s.size()), {}};
  std::vector<int64_t> ptr{0}, node;  // of every row, its place among the padded ones
  std::vector<T> x, value, value_t;
  std::vector<I> rowptr{0}, rowptr_t{0}, col, col_t;
  for (int64_t i = 0; i < p.B * p.N; ++i) {
    if (p.valid(i / p.N, i % p.N)) {
      node.push_back(i);
      for (int64_t k = 0; k < p.K; ++k) x.push_back(p.s[i * p.K + k]);
    }
    if ((i + 1) % p.N == 0) ptr.push_back(static_cast<int64_t>(node.size()));
  }
  std::vector<int64_t> place;  // of every entry, among those of the dense matrix
  const auto rows = static_cast<int64_t>(node.size());
  for (size_t b = 0; b + 1 < ptr.size(); ++b) {
    for (int64_t i = ptr[b]; i < ptr[b + 1]; ++i) {
      for (int64_t j = ptr[b]; j < ptr[b + 1]; ++j) {
        const int64_t ni = node[i], nj = node[j];
        const int64_t at = ni * p.N + nj % p.N, mirror = nj * p.N + ni % p.N;
        if (p.a[at] != 0) {
          col.push_back(static_cast<I>(j)), value.push_back(p.a[at]), place.push_back(at);
        }
        if (p.a[mirror] != 0) {
          col_t.push_back(static_cast<I>(j)), value_t.push_back(p.a[mirror]);
        }
      }
      rowptr.push_back(static_cast<I>(col.size())), rowptr_t.push_back(static_cast<I>(col_t.size()));
    }
  }
  const bool int64_index = sizeof(I) == 8;
  const EdgeRows args{{rows, int64_index, rowptr.data(), col.data(), value.data()},
                      sizeof(T) == 8,
                      x.data(),
                      p.K,
                      p.K,
                      p.B,
                      ptr.data()};
  const Csr transposed{rows, int64_index, rowptr_t.data(), col_t.data(), value_t.data()};
  cpu::total_variation_fwd(args, r.variation.data(), r.entries.data(), runtime);
  std::vector<T> ds(x.size()), da(value.size());
  cpu::edge_distances_bwd(args, transposed, p.scale.data(), ds.data(), runtime);
  cpu::edge_distances_fwd(args, p.scale.data(), da.data(), runtime);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t k = 0; k < p.K; ++k) r.ds[node[i] * p.K + k] = ds[i * p.K + k];
  }
  r.da = dense(p, runtime).da;
  for (size_t e = 0; e < da.size(); ++e) {
    const auto at = static_cast<size_t>(place[e]);
    expect_close(da[e], static_cast<double>(r.da[at]), std::abs(static_cast<double>(r.da[at])));
    r.da[at] = da[e];
  }
  return r;
}

template <typename T>
void test(int64_t B, int64_t N, int64_t K, double density, bool holes) {
  const Inputs<T> p(B, N, K, density, holes);
  const Results<T> one = dense(p, threads(1)), other = sparse<T, int32_t>(p, threads(1));
  check(p, one);
  check(p, other);
  EXPECT(dense(p, threads(3)) == one);
  EXPECT((sparse<T, int64_t>(p, threads(3)) == other));
}

// A node that is joined to all others, whose row is cut and shared, in both directions.
template <typename T>
void test_hub() {
  constexpr int64_t leaves = 70000, K = 3;
  std::vector<int32_t> rowptr{0}, col;
  for (int32_t j = 1; j <= leaves; ++j) col.push_back(j);
  rowptr.push_back(leaves);
  for (int64_t i = 0; i < leaves; ++i) col.push_back(0), rowptr.push_back(static_cast<int32_t>(col.size()));
  std::vector<T> x(K * (leaves + 1));
  for (int64_t i = 1; i <= leaves; ++i) x[i * K] = i % 2 ? T(1) : T(-2);
  const int64_t ptr[] = {0, leaves + 1};
  const Csr a{leaves + 1, false, rowptr.data(), col.data(), nullptr};
  const EdgeRows args{a, sizeof(T) == 8, x.data(), K, K, 1, ptr};
  for (int64_t count : {1, 3}) {
    T variation = 0, entries = 0;
    const T scale = T(0.5);
    cpu::total_variation_fwd(args, &variation, &entries, threads(count));
    EXPECT(variation == T(3 * leaves) && entries == T(2 * leaves));
    std::vector<T> distances(col.size()), ds(x.size(), T(7));
    cpu::edge_distances_fwd(args, &scale, distances.data(), threads(count));
    for (size_t e = 0; e < col.size(); ++e) EXPECT(distances[e] == (e % leaves % 2 ? T(1) : T(0.5)));
    for (const Csr& second : {a, Csr{}}) {
      const T times = second.rowptr ? T(1) : T(0.5);
      cpu::edge_distances_bwd(args, second, &scale, ds.data(), threads(count));
      EXPECT(ds[0] == 0 && ds[1] == 0);
      for (int64_t i = 1; i <= leaves; ++i) {
        EXPECT(ds[i * K] == (i % 2 ? times : -times));
        EXPECT(ds[i * K + 1] == 0);
      }
    }
  }
}

}  // namespace

TEST(total_variation) {
  for_each_isa([](cpu::Isa) {
    for (bool holes : {false, true}) {
      test<float>(3, 9, 4, 0.4, holes);
      test<double>(2, 65, 17, 0.1, holes);
      test<float>(1, 150, 5, 0.3, holes);
      test<float>(2, 1, 1, 1.0, holes);
    }
    test<double>(0, 4, 2, 0.5, false);
    test_hub<float>();
    test_hub<double>();
  });
}
