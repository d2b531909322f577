// A batch for soft pooling, padded or ragged, and the same sums by plain loops in double. Vectors have exactly the size
// that the contract states, so that the address sanitizer sees every access beyond them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "hierpool/soft_pool.h"
#include "testing.h"

namespace hierpool::testing {

template <typename T>
constexpr DType kTypeOf = sizeof(T) == 8 ? DType::f64 : DType::f32;

template <typename T>
void plain_gemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const T* a, int64_t lda, const T* b,
                int64_t ldb, T beta, T* c, int64_t ldc) {
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      T sum = 0;
      for (int64_t p = 0; p < k; ++p)
        sum += (ta ? a[p * lda + i] : a[i * lda + p]) * (tb ? b[j * ldb + p] : b[p * ldb + j]);
      c[i * ldc + j] = sum + (beta == T(0) ? T(0) : beta * c[i * ldc + j]);
    }
  }
}

inline Runtime runtime(int64_t threads, bool blas) {
  return {parallel, threads, blas ? plain_gemm<float> : nullptr, blas ? plain_gemm<double> : nullptr};
}

enum class Valid { all, mask, count };

struct Shape {
  int64_t B, R, N, K, F;
  double density;
  Valid valid;
  bool symmetric, given;
  bool mean = false;
  bool fits = false;     // A is nearly S S^T: a clique for each cluster
  bool counted = false;  // graphs have numbers of clusters of their own
};

// Inputs, with NaN wherever a padded node or a column that is no cluster is involved; A holds 0 and 1, as T or as bytes.
template <typename T>
struct Inputs {
  Shape shape;
  std::vector<T> logits, x, adj;
  std::vector<uint8_t> adj_bytes, mask;
  std::vector<int64_t> num_nodes, num_clusters;
  double inverse_temperature = 1.25;

  Inputs(const Shape& s, uint32_t seed)
      : shape(s),
        logits(s.B * s.N * s.K),
        x(s.B * s.N * s.F),
        adj(s.B * s.R * s.N * s.N),
        mask(s.B * s.N, 1),
        num_nodes(s.B, s.N),
        num_clusters(s.B, s.K) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<double> unit(0.0, 1.0);
    for (int64_t b = 0; b < s.B; ++b) {
      if (s.counted) num_clusters[b] = 1 + static_cast<int64_t>(random() % s.K);
      if (s.valid == Valid::count) num_nodes[b] = b == 0 ? s.N : static_cast<int64_t>(random() % (s.N + 1));
      for (int64_t i = 0; i < s.N; ++i) {
        if (s.valid == Valid::mask) mask[b * s.N + i] = unit(random) < 0.7;
        if (s.valid == Valid::count) mask[b * s.N + i] = i < num_nodes[b];
      }
    }
    const T nan = std::numeric_limits<T>::quiet_NaN();
    for (int64_t row = 0; row < s.B * s.N; ++row) {
      for (int64_t k = 0; k < s.K; ++k)
        logits[row * s.K + k] = !mask[row] || k >= num_clusters[row / s.N] ? nan
                                : s.fits ? T(6 * (row % s.N % s.K == k) + unit(random) / 2)
                                         : T(unit(random) * (s.given ? 1 : 6));
      for (int64_t f = 0; f < s.F; ++f) x[row * s.F + f] = mask[row] ? T(unit(random) - 0.5) : nan;
    }
    for (int64_t b = 0; b < s.B; ++b) {
      for (int64_t r = 0; r < s.R; ++r) {
        for (int64_t i = 0; i < s.N; ++i) {
          for (int64_t j = 0; j < s.N; ++j) {
            const bool mirrored = s.symmetric && j < i;
            T& value = adj[((b * s.R + r) * s.N + i) * s.N + j];
            value = mirrored ? adj[((b * s.R + r) * s.N + j) * s.N + i] : T(unit(random) < s.density);
            // One more entry, so that the matrix is not symmetric.
            if (s.fits) value = T(i % s.K == j % s.K || (!s.symmetric && i == 0 && j == 1));
            if (!mask[b * s.N + i] || !mask[b * s.N + j]) value = nan;
          }
        }
      }
    }
    for (T value : adj) adj_bytes.push_back(value == T(1));
  }

  PoolBatch batch() const {
    PoolBatch batch{};
    batch.B = shape.B, batch.R = shape.R, batch.N = shape.N, batch.K = shape.K, batch.F = shape.F;
    batch.is_double = sizeof(T) == 8;
    batch.s_type = batch.x_type = kTypeOf<T>;
    batch.x = x.data(), batch.x_stride_b = shape.N * shape.F, batch.x_stride_n = shape.F;
    if (shape.valid == Valid::mask) batch.mask = mask.data();
    if (shape.valid == Valid::count) batch.num_nodes = num_nodes.data();
    if (shape.counted) batch.num_clusters = num_clusters.data();
    batch.inverse_temperature = inverse_temperature;
    batch.given = shape.given, batch.mean = shape.mean;
    return batch;
  }

  DenseAdjacency adjacency(bool bytes) const {
    const int64_t N = shape.N, R = shape.R;
    const void* a = bytes ? static_cast<const void*>(adj_bytes.data()) : adj.data();
    return {bytes ? DType::u8 : kTypeOf<T>, a, R * N * N, N * N, N};
  }
};

// The valid nodes of Inputs with R = 1, one graph after another, and the non-zeros of A in compressed rows.
template <typename T, typename I>
struct Ragged {
  const Inputs<T>& from;
  std::vector<int64_t> ptr{0}, nodes, entries;  // nodes and entries: where they are in the padded tensors
  std::vector<I> rowptr{0}, col, rowptr_t{0}, col_t;
  std::vector<T> logits, x, value, value_t;

  explicit Ragged(const Inputs<T>& in) : from(in) {
    const auto& [B, R, N, K, F, density, valid, symmetric, given, mean, fits, counted] = in.shape;
    for (int64_t b = 0; b < B; ++b) {
      for (int64_t i = b * N; i < (b + 1) * N; ++i) {
        if (!in.mask[i]) continue;
        nodes.push_back(i);
        logits.insert(logits.end(), &in.logits[i * K], &in.logits[i * K] + K);
        x.insert(x.end(), in.x.data() + i * F, in.x.data() + (i + 1) * F);
      }
      ptr.push_back(static_cast<int64_t>(nodes.size()));
      for (int64_t i = ptr[b]; i < ptr[b + 1]; ++i) {
        for (int64_t j = ptr[b]; j < ptr[b + 1]; ++j) {
          const int64_t there = nodes[i] * N + nodes[j] % N, back = nodes[j] * N + nodes[i] % N;
          if (in.adj[there] != 0)
            col.push_back(I(j)), value.push_back(in.adj[there]), entries.push_back(there);
          if (in.adj[back] != 0) col_t.push_back(I(j)), value_t.push_back(in.adj[back]);
        }
        rowptr.push_back(I(col.size()));
        rowptr_t.push_back(I(col_t.size()));
      }
    }
  }

  PoolBatch batch() const {
    PoolBatch batch = from.batch();
    batch.N = 0;
    for (size_t b = 1; b < ptr.size(); ++b) batch.N = std::max(batch.N, ptr[b] - ptr[b - 1]);
    batch.ptr = ptr.data();
    batch.mask = nullptr, batch.num_nodes = nullptr;
    batch.x = x.data(), batch.x_stride_n = from.shape.F;
    return batch;
  }

  CsrAdjacency adjacency(bool weighted, bool symmetric) const {
    const auto rows = static_cast<int64_t>(nodes.size());
    constexpr bool kWide = sizeof(I) == 8;
    CsrAdjacency a{{rows, kWide, rowptr.data(), col.data(), weighted ? value.data() : nullptr}, {}};
    if (!symmetric) {
      a.transposed = {rows, kWide, rowptr_t.data(), col_t.data(), weighted ? value_t.data() : nullptr};
    }
    return a;
  }
};

// The outputs of the forward in one order: s, x, adj, gram, vectors, scalars, total entropy, link norm.
constexpr int kOutputs = 8;

template <typename T>
struct Outputs {
  std::vector<T> values[kOutputs];
  std::vector<T> m, degree;
  std::vector<uint8_t> is_symmetric;

  explicit Outputs(const Shape& s)
      : values{std::vector<T>(s.B * s.N * s.K),
               std::vector<T>(s.B * s.K * s.F),
               std::vector<T>(s.B * s.R * s.K * s.K),
               std::vector<T>(s.B * s.K * s.K),
               std::vector<T>(s.B * (1 + s.R) * s.K),
               std::vector<T>(s.B * (2 + 4 * s.R)),
               std::vector<T>(1),
               std::vector<T>(s.R)},
        m(s.B * s.R * s.N * s.K),
        degree(s.B * s.R * s.N),
        is_symmetric(s.B * s.R) {}
};

// Into `out`; of a ragged batch, `graph_stride` is 0.
template <typename T>
SoftPoolForward arguments(const PoolBatch& batch, const std::vector<T>& logits, int64_t graph_stride,
                          int symmetric, Outputs<T>& out) {
  auto& [s, x, adj, gram, vectors, scalars, total_entropy, link_norm] = out.values;
  SoftPoolForward args{batch,
                       logits.data(),
                       graph_stride,
                       batch.K,
                       symmetric,
                       true,
                       true,
                       s.data(),
                       x.data(),
                       adj.data(),
                       gram.data(),
                       vectors.data(),
                       scalars.data(),
                       total_entropy.data(),
                       link_norm.data(),
                       out.m.data(),
                       out.is_symmetric.data()};
  args.degree = out.degree.data();
  return args;
}

template <typename T>
Outputs<T> forward(const Inputs<T>& in, const Runtime& runtime, int symmetric, bool bytes = false) {
  Outputs<T> out(in.shape);
  const auto args = arguments(in.batch(), in.logits, in.shape.N * in.shape.K, symmetric, out);
  cpu::soft_pool_fwd(args, in.adjacency(bytes), runtime);
  return out;
}

// Rows of S and M are those of the valid nodes.
template <typename T, typename I>
Outputs<T> forward(const Ragged<T, I>& in, const Runtime& runtime, bool weighted, bool symmetric,
                   bool save_m = true) {
  Outputs<T> out(in.from.shape);
  out.values[0].assign(in.logits.size(), T(0));
  out.m = out.values[0];
  auto args = arguments(in.batch(), in.logits, 0, symmetric, out);
  if (!save_m) args.m = nullptr;
  args.is_symmetric = nullptr;
  cpu::soft_pool_fwd(args, in.adjacency(weighted, symmetric), runtime);
  return out;
}

// The record by its definition.
template <typename T>
Outputs<double> plain_forward(const Inputs<T>& in) {
  const auto& [B, R, N, K, F, density, valid, symmetric, given, mean, fits, counted] = in.shape;
  Outputs<double> out(in.shape);
  auto& [s, x, adj, gram, vectors, scalars, total_entropy, link_norm] = out.values;
  for (int64_t b = 0; b < B; ++b) {
    double* const record = &scalars[b * (2 + 4 * R)];
    std::vector<int64_t> nodes;
    for (int64_t i = 0; i < N; ++i) {
      if (in.mask[b * N + i]) nodes.push_back(i);
    }
    const auto S = [&](int64_t i, int64_t k) -> double& { return s[(b * N + i) * K + k]; };
    record[0] = static_cast<double>(nodes.size());
    for (int64_t i : nodes) {
      double sum = 0;
      for (int64_t k = 0; k < in.num_clusters[b]; ++k) {
        const double logit = in.logits[(b * N + i) * K + k];
        S(i, k) = given ? logit : std::exp(logit * in.inverse_temperature);
        sum += S(i, k);
      }
      for (int64_t k = 0; k < in.num_clusters[b]; ++k) {
        if (!given) S(i, k) /= sum;
        if (S(i, k) > 0) record[1] -= S(i, k) * std::log(S(i, k));
        vectors[b * (1 + R) * K + k] += S(i, k);
        for (int64_t f = 0; f < F; ++f) x[(b * K + k) * F + f] += S(i, k) * in.x[(b * N + i) * F + f];
      }
      for (int64_t k = 0; k < K; ++k) {
        for (int64_t l = 0; l < K; ++l) gram[(b * K + k) * K + l] += S(i, k) * S(i, l);
      }
    }
    total_entropy[0] += record[1];
    for (int64_t r = 0; r < R; ++r) {
      for (int64_t i : nodes) {
        double degree = 0, square = 0;
        std::vector<double> m(K);
        const T* a_row = in.adj.data() + ((b * R + r) * N + i) * N;
        const double* s_i = &s[(b * N + i) * K];
        for (int64_t j : nodes) {
          const double a = a_row[j];
          const double* s_j = &s[(b * N + j) * K];
          double similarity = 0;
          for (int64_t k = 0; k < K; ++k) similarity += s_i[k] * s_j[k];
          for (int64_t k = 0; a != 0 && k < K; ++k) m[k] += a * s_j[k];
          degree += a;
          record[2 + R + r] += a * a;
          record[2 + 3 * R + r] += (a - similarity) * (a - similarity);
        }
        for (int64_t k = 0; k < K; ++k) {
          square += S(i, k) * S(i, k);
          vectors[(b * (1 + R) + 1 + r) * K + k] += degree * S(i, k);
          for (int64_t l = 0; l < K; ++l) adj[((b * R + r) * K + k) * K + l] += S(i, k) * m[l];
        }
        record[2 + r] += degree * square;
        record[2 + 2 * R + r] += degree;
      }
      link_norm[r] += record[2 + 3 * R + r];
      for (int64_t norm : {2 + R + r, 2 + 3 * R + r}) record[norm] = std::sqrt(record[norm]);
    }
  }
  const double rows = static_cast<double>(std::max<int64_t>(B * N, 1));
  if (mean) total_entropy[0] /= rows;
  for (double& norm : link_norm)
    norm = std::sqrt(norm) / (mean ? rows * static_cast<double>(std::max<int64_t>(N, 1)) : 1);
  return out;
}

}  // namespace hierpool::testing
