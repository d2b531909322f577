#include "hierpool/cut_pool.h"

#include <algorithm>
#include <cmath>

#include "cpu/accumulation.h"
#include "cpu/buffer.h"
#include "cpu/row_kernels.h"
#include "cpu/tasks.h"

namespace hierpool::cpu {
namespace {

constexpr int64_t kTaskElements = 1 << 14;
constexpr int64_t kScalars = 6;
constexpr int64_t kNodes = 0, kCutDegree = 2, kTotalDegree = 4;

// 0/0 is 0, with gradient 0.
double quotient(double numerator, double denominator) {
  return denominator == 0 ? 0 : numerator / denominator;
}

// Calls graph(b, thread) for every graph, in tasks of about kTaskElements.
template <typename Graph>
void for_graphs(const CutPool& shape, const Runtime& runtime, const Graph& graph) {
  const int64_t step = std::max<int64_t>(1, kTaskElements / std::max<int64_t>(1, shape.k * shape.k));
  run_range_tasks(runtime, shape.graphs, step, [&](int64_t begin, int64_t end, int64_t thread) {
    for (int64_t b = begin; b < end; ++b) graph(b, thread);
  });
}

// The sums of one graph, and what the losses are made of.
template <typename T>
struct Graph {
  const T* adj;
  const T* gram;
  const T* size;
  const T* volume;
  const T* scalars;
  int64_t k, ld;  // clusters, and the length of rows

  Graph(const CutPool& shape, const CutSums& sums, int64_t b)
      : adj(static_cast<const T*>(sums.adj) + b * shape.k * shape.k),
        gram(static_cast<const T*>(sums.gram) + b * shape.k * shape.k),
        size(static_cast<const T*>(sums.vectors)),
        volume(nullptr),
        scalars(static_cast<const T*>(sums.scalars) + b * kScalars),
        k(shape.clusters(b)),
        ld(shape.k) {
    if (shape.kind == CutKind::mincut) return;
    size += b * 2 * ld;
    volume = size + ld;
  }

  double trace() const {
    double sum = 0;
    for (int64_t i = 0; i < k; ++i) sum += adj[i * ld + i];
    return sum;
  }
  // What modularity expects within clusters, |S^T d|^2 / 2m
  double expected() const { return quotient(square(volume), scalars[kTotalDegree]); }
  double length() const { return std::sqrt(square(size)); }

 private:
  double square(const T* vector) const {
    double sum = 0;
    for (int64_t i = 0; i < k; ++i) sum += double(vector[i]) * vector[i];
    return sum;
  }
};

// What |S^T 1| of a graph of `nodes` nodes is multiplied by in the cluster loss.
template <typename T>
struct ClusterWeight {
  const CutPool& shape;
  double shares = 0;  // sum of 1 / n
  int64_t nonempty = 0;

  ClusterWeight(const CutPool& of, const CutSums& sums) : shape(of) {
    for (int64_t b = 0; b < shape.graphs; ++b) {
      const double nodes = static_cast<const T*>(sums.scalars)[b * kScalars + kNodes];
      shares += quotient(1, nodes);
      nonempty += nodes != 0;
    }
  }
  double operator()(double nodes, int64_t k) const {
    const double mean = 1.0 / double(shape.graphs);
    return std::sqrt(double(k)) * mean *
           (shape.kind == CutKind::dmon_crossed ? shares * mean : quotient(1, nodes));
  }
};

// out = a without its diagonal, divided by the roots of its row sums on both sides; scale: 1 / these roots, or 0
template <typename T>
void normalize(const RowKernels<T>& kernels, const T* a, T* out, T* scale, int64_t k, int64_t ld) {
  std::copy(a, a + ld * ld, out);
  for (int64_t i = 0; i < k; ++i) {
    out[i * ld + i] = 0;
    const T degree = kernels.stats(out + i * ld, k).sum;
    scale[i] = degree > 0 ? T(1 / std::sqrt(double(degree))) : std::isnan(degree) ? degree : T(0);
  }
  for (int64_t i = 0; i < k; ++i) {
    for (int64_t j = 0; j < k; ++j) out[i * ld + j] = out[i * ld + j] * scale[i] * scale[j];
  }
}

// Given g = dout: dadj_ij = g_ij r_i r_j - r_i^2 / 2 sum_l (g_il out_il + g_li out_li) off the diagonal, `diagonal` on it
template <typename T>
void normalize_backward(const RowKernels<T>& kernels, const T* g, const T* out, const T* scale, T diagonal,
                        T* dadj, T* columns, int64_t k, int64_t ld) {
  std::fill(columns, columns + k, T(0));
  for (int64_t i = 0; i < k; ++i) {
    for (int64_t j = 0; j < k; ++j) columns[j] += g[i * ld + j] * out[i * ld + j];
  }
  for (int64_t i = 0; i < k; ++i) {
    const T both = kernels.dot(g + i * ld, out + i * ld, k) + columns[i];
    const T half = T(-0.5) * scale[i] * scale[i] * both;
    for (int64_t j = 0; j < k; ++j) dadj[i * ld + j] = g[i * ld + j] * scale[i] * scale[j] + half;
    dadj[i * ld + i] = diagonal;
  }
}

// U = G / |G| against I / sqrt(K). What is off the diagonal is summed by itself.
template <typename T>
struct Orthogonality {
  double norm;    // |G|
  double length;  // |U - I / sqrt(K)|, or 0 if G is 0
  double along;   // <U, U - I / sqrt(K)>

  static Orthogonality of(const RowKernels<T>& kernels, const T* gram, int64_t k, int64_t ld) {
    double off = 0, on = 0;
    for (int64_t i = 0; i < k; ++i) {
      const T *row = gram + i * ld, *diagonal = row + i;
      on += double(*diagonal) * *diagonal;
      off += double(kernels.stats(row, i).sum_sq) + kernels.stats(diagonal + 1, k - i - 1).sum_sq;
    }
    const double norm = std::sqrt(off + on), equal = 1 / std::sqrt(double(k));
    if (norm == 0) return {0, 0, 0};
    double square = off / (norm * norm), along = square;
    for (int64_t i = 0; i < k; ++i) {
      const double unit = gram[i * (ld + 1)] / norm;
      square += (unit - equal) * (unit - equal);
      along += unit * (unit - equal);
    }
    return {norm, std::sqrt(square), along};
  }

  // dgram = weight (U - I / sqrt(K) - along U) / (length norm)
  void backward(const T* gram, double weight, T* dgram, int64_t k, int64_t ld) const {
    const double scale = quotient(weight, length * norm), equal = 1 / std::sqrt(double(k));
    const T off = T(quotient(scale * (1 - along), norm));
    for (int64_t i = 0; i < k; ++i, gram += ld, dgram += ld) {
      for (int64_t j = 0; j < k; ++j) dgram[j] = off * gram[j];
      const double unit = quotient(gram[i], norm);
      dgram[i] = T(scale * ((unit - equal) - unit * along));
    }
  }
};

template <typename T>
void forward(const CutPool& shape, const CutSums& sums, T* out, void* const* losses, T* saved,
             const Runtime& runtime) {
  const RowKernels<T>& kernels = row_kernels<T>(isa_in_force());
  const int64_t k = shape.k, width = k + kCutSaved;
  for_graphs(shape, runtime, [&](int64_t b, int64_t) {
    const Graph<T> graph(shape, sums, b);
    normalize(kernels, graph.adj, out + b * k * k, saved + b * width, graph.k, k);
    const auto apart = Orthogonality<T>::of(kernels, graph.gram, graph.k, k);
    T* rest = saved + b * width + k;
    rest[0] = T(apart.norm), rest[1] = T(apart.length), rest[2] = T(apart.along);
  });
  // Sums over graphs, in their order whatever the threads.
  double first = 0, ortho = 0, cluster = 0;
  const ClusterWeight<T> weight(shape, sums);
  for (int64_t b = 0; b < shape.graphs; ++b) {
    const Graph<T> graph(shape, sums, b);
    ortho += saved[b * width + k + 1];
    if (shape.kind == CutKind::mincut) {
      first += quotient(graph.trace(), graph.scalars[kCutDegree]);
    } else {
      first += quotient(graph.trace() - graph.expected(), graph.scalars[kTotalDegree]);
      cluster += graph.length() * weight(graph.scalars[kNodes], graph.k);
    }
  }
  const double mean = quotient(1, double(shape.graphs));
  *static_cast<T*>(losses[0]) = T(-first * mean);
  *static_cast<T*>(losses[1]) = T(ortho * mean);
  if (shape.kind == CutKind::dmon) cluster -= double(weight.nonempty) * mean;
  if (shape.kind == CutKind::dmon_crossed) cluster -= 1;
  *static_cast<T*>(losses[2]) = T(cluster);
}

template <typename T>
void backward(const CutPool& shape, const CutSums& sums, const T* out, const T* saved, const T* dout,
              const double* dlosses, T* dadj, T* dgram, T* dvectors, T* dscalars, const Runtime& runtime) {
  const RowKernels<T>& kernels = row_kernels<T>(isa_in_force());
  const int64_t k = shape.k, width = k + kCutSaved;
  const double mean = quotient(1, double(shape.graphs));
  const double dfirst = dlosses[0] * mean, dortho = dlosses[1] * mean, dcluster = dlosses[2];
  const ClusterWeight<T> weight(shape, sums);
  const Buffer<T> columns(std::max<int64_t>(1, runtime.threads) * k);
  for_graphs(shape, runtime, [&](int64_t b, int64_t thread) {
    const Graph<T> graph(shape, sums, b);
    const T* rest = saved + b * width + k;
    const bool mincut = shape.kind == CutKind::mincut;
    const int64_t over = mincut ? kCutDegree : kTotalDegree;
    const double degree = graph.scalars[over];
    const double slope = quotient(dfirst, degree), pull = quotient(slope, degree);
    T* at = dadj + b * k * k;
    if (dout == nullptr) {
      for (int64_t i = 0; i < graph.k; ++i) {
        std::fill_n(at + i * k, graph.k, T(0));
        at[i * (k + 1)] = T(-slope);
      }
    } else {
      normalize_backward(kernels, dout + b * k * k, out + b * k * k, saved + b * width, T(-slope), at,
                         columns.data() + thread * k, graph.k, k);
    }
    if (dgram) {
      const Orthogonality<T> apart{rest[0], rest[1], rest[2]};
      apart.backward(graph.gram, dortho, dgram + b * k * k, graph.k, k);
    }
    T* scalars = dscalars + b * kScalars;
    std::fill(scalars, scalars + kScalars, T(0));
    const double expected = mincut ? 0 : graph.expected();
    scalars[over] = T(pull * (graph.trace() - 2 * expected));
    if (mincut) return;
    T* dsize = dvectors + b * 2 * k;
    const double grow = quotient(dcluster * weight(graph.scalars[kNodes], graph.k), graph.length());
    for (int64_t i = 0; i < graph.k; ++i) {
      dsize[i] = T(grow * graph.size[i]);
      dsize[k + i] = T(2 * pull * graph.volume[i]);
    }
  });
}

}  // namespace

void cut_pool_fwd(const CutPool& shape, const CutSums& sums, void* out, void* const* losses, void* saved,
                  const Runtime& runtime) {
  with_accumulation_type(shape.is_double, [&]<typename T>(T) {
    forward(shape, sums, static_cast<T*>(out), losses, static_cast<T*>(saved), runtime);
  });
}

void cut_pool_bwd(const CutPool& shape, const CutSums& sums, const void* out, const void* saved,
                  const void* dout, const double* dlosses, void* dadj, void* dgram, void* dvectors,
                  void* dscalars, const Runtime& runtime) {
  with_accumulation_type(shape.is_double, [&]<typename T>(T) {
    backward(shape, sums, static_cast<const T*>(out), static_cast<const T*>(saved),
             static_cast<const T*>(dout), dlosses, static_cast<T*>(dadj), static_cast<T*>(dgram),
             static_cast<T*>(dvectors), static_cast<T*>(dscalars), runtime);
  });
}

}  // namespace hierpool::cpu
