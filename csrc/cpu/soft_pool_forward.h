// S = m * softmax(L / T), X' = S^T X, A' = S^T A S and the sums beside them, for any kind of adjacency; see the contract.
//
// A small graph is one task, start to end, while it is in cache. A large one is cut into row tiles, and goes through
// three steps with all threads at each: S and its sums; what A alone says; M = A S and its sums. In the first and
// the last, segments of consecutive tiles have sums of their own, each row is summed while it is in cache, and the
// segments are added in order.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>

#include "cpu/pool_context.h"
#include "cpu/segments.h"
#include "cpu/soft_pool_residual.h"

namespace hierpool::cpu {

// Rows of a symmetric K x K matrix that are computed up to the diagonal block.
constexpr int64_t slab_rows(int64_t K) { return K <= 256 ? 16 : 64; }

// What the rows of A in a tile add to the scalars.
struct EdgeSums {
  double adj_sq = 0, total = 0, cut = 0, trace = 0;
};

// Edges walks the rows of A:
//   cut(adjacency, first_row, n)                  see Graphs
//   kTilesPerProduct                              tiles that go into one product with S
//   work(b, tile)                                 a measure of the time that a tile takes
//   scan(b, r, tile, degree, sums, thread)        degrees, |A|^2 and the total of the rows of a tile
//   prepare_products(b, s)                        before the products of a cut graph, with all threads
//   multiply(b, r, begin, end, s, out, ld, thread)  rows of M = A S, `ld` apart
//   symmetric(b, r)                               whether A is known to be, once it was scanned
//   subtract(..)                                  see Residual
template <typename T, typename Edges>
class Forward {
 public:
  Forward(const SoftPoolForward& args, const typename Edges::Adjacency& adjacency, const Runtime& runtime)
      : args_(args),
        context_(args.batch, runtime,
                 [&](int64_t first, int64_t n) { return Edges::cut(adjacency, first, n); }),
        edges_(adjacency, context_, args),
        edge_sums_(static_cast<size_t>(graphs_.tiles() * batch_.R)),
        entropy_(static_cast<size_t>(graphs_.tiles())),
        link_sq_(static_cast<size_t>(batch_.B * batch_.R)),
        vectors_(graphs_.tiles() * (1 + batch_.R) * batch_.K),
        degree_(args.degree ? 0 : batch_.rows() * batch_.R),
        product_(Edges::kTilesPerProduct * graphs_.largest_tile() * batch_.K, runtime) {
    for (auto* views : {&p_, &x_}) views->reserve(batch_.B);
    for (int64_t b = 0; b < batch_.B; ++b) {
      const Graph& g = graphs_.graph(b);
      context_.place(p_, g, args_.s, batch_.s_type, g.first_row * batch_.K, batch_.K, g.k, true);
      context_.place(x_, g, batch_.x, batch_.x_type, x_offset(b), batch_.x_stride_n, batch_.F, true);
    }
    for (auto* views : {&p_, &x_}) views->allocate(runtime);
    if (batch_.x_type != dtype_of<T>()) x_pooled_ = Buffer<T>(batch_.B * batch_.K * batch_.F);
  }

  void run() {
    graphs_.for_each(
        context_.runtime, [&](int64_t b) { run_cut(b); },
        [&](int64_t b, int64_t thread) { run_whole(b, thread); });
    totals();
  }

 private:
  // Of the K clusters of a graph, in matrices [ld, ld].
  struct Sums {
    T* x;     // [K, F]
    T* adj;   // R of them
    T* gram;  // or null
    int64_t ld;

    T* adj_of(int64_t r) const { return adj + r * ld * ld; }
  };

  int64_t edge(int64_t b, int64_t r) const { return b * batch_.R + r; }
  int64_t x_offset(int64_t b) const { return context_.offset(b, batch_.x_stride_b, batch_.x_stride_n); }
  const RowsView<T>& p(int64_t b) const { return p_[b]; }
  const RowsView<T>& x(int64_t b) const { return x_[b]; }
  T* degrees(int64_t b, int64_t r) const {
    return (args_.degree ? static_cast<T*>(args_.degree) : degree_.data()) + context_.first_row(b, r);
  }
  EdgeSums& edge_sums(int64_t b, int64_t tile, int64_t r) {
    return edge_sums_[static_cast<size_t>((graphs_.graph(b).first_tile + tile) * batch_.R + r)];
  }
  T* tile_vectors(int64_t b, int64_t tile) const {
    return vectors_.data() + (graphs_.graph(b).first_tile + tile) * (1 + batch_.R) * batch_.K;
  }
  Sums outputs(int64_t b) const {
    const int64_t K = batch_.K;
    T* pooled = x_pooled_.data() ? x_pooled_.data() : static_cast<T*>(args_.x_pooled);
    return {pooled + b * K * batch_.F, static_cast<T*>(args_.adj_pooled) + b * batch_.R * K * K,
            args_.gram ? static_cast<T*>(args_.gram) + b * K * K : nullptr, K};
  }

  void run_whole(int64_t b, int64_t thread);
  void run_cut(int64_t b);
  void add(int64_t b, const Sums& out, const Sums& in, int64_t first, int64_t last) const;
  void assign(int64_t b, int64_t tile);
  void sum_nodes(int64_t b, int64_t tile, const Sums& out, bool accumulate) const;
  void scan(int64_t b, int64_t r, int64_t tile, int64_t thread);
  void sum_edges(int64_t b, int64_t r, int64_t first, int64_t last, const Sums& out, bool accumulate,
                 int64_t thread);
  void square(int64_t b, int64_t begin, int64_t end, const T* right, int64_t ld, int of_right, T* out,
              int64_t ld_out, bool symmetric, bool accumulate) const;
  void finish(int64_t b, const Runtime& runtime);
  double summed_link_sq(int64_t b, int64_t r, const Runtime& runtime) const;
  void totals();

  const SoftPoolForward& args_;
  PoolContext<T> context_;
  const PoolBatch& batch_ = context_.batch;
  const Graphs& graphs_ = context_.graphs;
  const RowKernels<T>& rows_ = context_.kernels;
  Edges edges_;
  std::vector<EdgeSums> edge_sums_;
  std::vector<double> entropy_;
  std::vector<double> link_sq_;
  Buffer<T> vectors_, degree_;
  Scratch<T> product_;  // rows of M that are not saved, or saved elsewhere
  RowsViews<T> p_, x_;
  Buffer<T> x_pooled_;
};

template <typename T, typename Edges>
void Forward<T, Edges>::run_whole(int64_t b, int64_t thread) {
  const Sums out = outputs(b);
  for (auto* views : {&p_, &x_}) views->lend(b, thread);
  assign(b, 0);
  sum_nodes(b, 0, out, false);
  for (int64_t r = 0; r < batch_.R; ++r) {
    scan(b, r, 0, thread);
    sum_edges(b, r, 0, 1, out, false, thread);
  }
  Runtime alone = context_.runtime;
  alone.threads = 1;
  finish(b, alone);
}

template <typename T, typename Edges>
void Forward<T, Edges>::run_cut(int64_t b) {
  const Graph& g = graphs_.graph(b);
  const int64_t R = batch_.R, K = g.k, size = K * (batch_.F + R * K + (args_.gram ? K : 0));
  const int64_t segments = segment_count(g.tiles, g.n, K + batch_.F, size);
  const Buffer<T> partial((segments - 1) * size);
  const auto target = [&](int64_t segment) {
    if (segment == 0) return outputs(b);
    T* base = partial.data() + (segment - 1) * size;
    return Sums{base, base + K * batch_.F, args_.gram ? base + K * (batch_.F + R * K) : nullptr, K};
  };
  const std::vector<int64_t> bounds =
      segment_bounds(g.tiles, segments, [&](int64_t tile) { return edges_.work(b, tile); });
  const auto bound = [&](int64_t segment) { return bounds[static_cast<size_t>(segment)]; };
  run_tasks(context_.runtime, segments, [&](int64_t segment, int64_t) {
    for (int64_t tile = bound(segment); tile < bound(segment + 1); ++tile) {
      assign(b, tile);
      sum_nodes(b, tile, target(segment), tile > bound(segment));
    }
  });
  run_tasks(context_.runtime, g.tiles * R, [&](int64_t i, int64_t thread) { scan(b, i % R, i / R, thread); });
  edges_.prepare_products(b, p(b));
  run_tasks(context_.runtime, segments * R, [&](int64_t i, int64_t thread) {
    const int64_t r = i % R, segment = i / R, end = bound(segment + 1);
    for (int64_t tile = bound(segment); tile < end; tile += Edges::kTilesPerProduct) {
      sum_edges(b, r, tile, std::min(tile + Edges::kTilesPerProduct, end), target(segment),
                tile > bound(segment), thread);
    }
  });
  const int64_t rows = slab_rows(K);
  run_range_tasks(context_.runtime, K, rows, [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t segment = 1; segment < segments; ++segment) {
      add(b, outputs(b), target(segment), begin, end);
    }
  });
  finish(b, context_.runtime);
}

// Rows [first, last) of the sums.
template <typename T, typename Edges>
void Forward<T, Edges>::add(int64_t b, const Sums& out, const Sums& in, int64_t first, int64_t last) const {
  const int64_t K = graphs_.graph(b).k, F = batch_.F;
  rows_.axpy(out.x + first * F, T(1), in.x + first * F, (last - first) * F);
  const auto add_square = [&](T* to, const T* from, bool symmetric) {
    const int64_t width = symmetric ? last : K;
    for (int64_t k = first; k < last; ++k) rows_.axpy(to + k * out.ld, T(1), from + k * in.ld, width);
  };
  for (int64_t r = 0; r < batch_.R; ++r) add_square(out.adj_of(r), in.adj_of(r), edges_.symmetric(b, r));
  if (out.gram) add_square(out.gram, in.gram, true);
}

// Rows of S with their entropy and column sums, and rows of X where a copy is needed.
template <typename T, typename Edges>
void Forward<T, Edges>::assign(int64_t b, int64_t tile) {
  const Graph& g = graphs_.graph(b);
  const int64_t begin = g.tile_begin(tile), end = g.tile_end(tile), K = g.k;
  const int64_t first = context_.offset(b, args_.logits_stride_b, args_.logits_stride_n);
  const DType type = batch_.s_type;
  const T scale = static_cast<T>(batch_.inverse_temperature);
  T* size = tile_vectors(b, tile);
  std::fill_n(size, (1 + batch_.R) * K, T(0));
  double entropy = 0;
  const RowsView<T>& s = p(b);
  T* rows = s.row(begin);
  const T* source = rows;
  int64_t ld = s.ld;
  if (s.copied) {
    context_.load_rows(rows, at(args_.logits, type, first), type, args_.logits_stride_n, g, begin, end, K);
  } else {
    const T* logits = static_cast<const T*>(args_.logits) + first + begin * args_.logits_stride_n;
    if (batch_.given) {
      for (int64_t i = 0; i < end - begin; ++i)
        std::copy_n(logits + i * args_.logits_stride_n, K, rows + i * ld);
    } else {
      source = logits, ld = args_.logits_stride_n;
    }
  }
  if (!batch_.given) entropy = rows_.softmax(rows, s.ld, source, ld, K, end - begin, scale);
  void* returned = at(args_.s, type, g.first_row * batch_.K);
  if (s.copied) {
    context_.store_rows(returned, rows, type, batch_.K, g, begin, end, K);
  } else if (K < batch_.K) {
    for (int64_t i = begin; i < end; ++i) std::fill_n(s.row(i) + K, batch_.K - K, T(0));
  }
  const bool same_type = type == dtype_of<T>();
  if (!same_type)  // every sum sees S as it is returned
    context_.load_rows(rows, returned, type, batch_.K, g, begin, end, K);
  if (args_.want_entropy && (batch_.given || !same_type)) {
    entropy = 0;
    for (int64_t i = begin; i < end; ++i) entropy += rows_.entropy(s.row(i), K);
  }
  if (end > begin) rows_.column_sums(size, rows, s.ld, end - begin, K);
  entropy_[static_cast<size_t>(g.first_tile + tile)] = entropy;
  if (x(b).copied) {
    context_.load_rows(x(b).row(begin), at(batch_.x, batch_.x_type, x_offset(b)), batch_.x_type,
                       batch_.x_stride_n, g, begin, end, batch_.F);
  }
  if (tile == 0) {
    const int64_t bytes = batch_.K * element_bytes(type);
    context_.for_padding(g, [&](int64_t from, int64_t to) {
      std::memset(at(returned, type, from * batch_.K), 0, static_cast<size_t>((to - from) * bytes));
    });
  }
}

// S^T X and S^T S over the rows of a tile.
template <typename T, typename Edges>
void Forward<T, Edges>::sum_nodes(int64_t b, int64_t tile, const Sums& out, bool accumulate) const {
  const Graph& g = graphs_.graph(b);
  const int64_t begin = g.tile_begin(tile), end = g.tile_end(tile), K = g.k, F = batch_.F;
  context_.product_of_transposed(K, F, end - begin, p(b).row(begin), p(b).ld, x(b).row(begin), x(b).ld, out.x,
                                 F, accumulate, {context_.of_s(), context_.of_x()});
  if (!out.gram) return;
  square(b, begin, end, p(b).row(begin), p(b).ld, context_.of_s(), out.gram, out.ld, true, accumulate);
}

// S^T right over the rows [begin, end) of S and all of `right`, [.., K], of so many terms. If it is symmetric, the blocks
// above the diagonal are left to finish().
template <typename T, typename Edges>
void Forward<T, Edges>::square(int64_t b, int64_t begin, int64_t end, const T* right, int64_t ld,
                               int of_right, T* out, int64_t ld_out, bool symmetric, bool accumulate) const {
  constexpr int64_t kSplitSlab = 128;  // rows that pay for packing `right` again
  const Terms terms{context_.of_s(), of_right};
  const int64_t K = graphs_.graph(b).k;
  const int64_t slab = context_.splits(K, K, end - begin, terms) ? kSplitSlab : slab_rows(K);
  const int64_t step = symmetric ? slab : K;
  for (int64_t k = 0; k < K; k += step) {
    const int64_t k_end = std::min(k + step, K);
    context_.product_of_transposed(k_end - k, symmetric ? k_end : K, end - begin, p(b).row(begin) + k,
                                   p(b).ld, right, ld, out + k * ld_out, ld_out, accumulate, terms);
  }
}

template <typename T, typename Edges>
void Forward<T, Edges>::scan(int64_t b, int64_t r, int64_t tile, int64_t thread) {
  edges_.scan(b, r, tile, degrees(b, r), edge_sums(b, tile, r), thread);
}

// M = A S on the rows of the tiles [first, last), and the sums that need it or the degrees.
template <typename T, typename Edges>
void Forward<T, Edges>::sum_edges(int64_t b, int64_t r, int64_t first, int64_t last, const Sums& out,
                                  bool accumulate, int64_t thread) {
  const Graph& g = graphs_.graph(b);
  const int64_t K = g.k, begin = g.tile_begin(first), end = g.tile_end(last - 1);
  T* saved = args_.m ? static_cast<T*>(args_.m) + context_.first_row(b, r) * batch_.K : nullptr;
  const bool in_place = saved && g.rows == nullptr;
  T* m = in_place ? saved + begin * batch_.K : product_.of(thread);
  const int64_t ld = in_place ? batch_.K : K;
  edges_.multiply(b, r, begin, end, p(b), m, ld, thread);
  for (int64_t tile = first; tile < last; ++tile) {
    EdgeSums& sums = edge_sums(b, tile, r);
    T* volume = tile_vectors(b, tile) + (1 + r) * K;
    const int64_t i = g.tile_begin(tile);
    const AssignmentSums products = rows_.assignment_sums(volume, degrees(b, r) + i, p(b).row(i), p(b).ld,
                                                          m + (i - begin) * ld, ld, g.tile_end(tile) - i, K);
    sums.trace += products.trace, sums.cut += products.cut;
  }
  if (saved && g.rows) {
    for (int64_t i = begin; i < end; ++i) std::copy_n(m + (i - begin) * ld, K, saved + g.row(i) * batch_.K);
  }
  square(b, begin, end, m, ld, context_.of_computed(), out.adj_of(r), out.ld, edges_.symmetric(b, r),
         accumulate);
}

// Completes a matrix [ld, ld] of K clusters: 0 beyond them and, if it is symmetric, what is above the diagonal. Also
// inside the blocks on it: pooling a symmetric graph gives an exactly symmetric one.
template <typename T>
void complete(const RowKernels<T>& kernels, T* matrix, int64_t K, int64_t ld, bool symmetric) {
  if (symmetric) kernels.mirror(matrix, ld, K);
  if (K == ld) return;
  for (int64_t k = 0; k < K; ++k) std::fill_n(matrix + k * ld + K, ld - K, T(0));
  std::fill_n(matrix + K * ld, (ld - K) * ld, T(0));
}

// |A - S S^T|^2, from that matrix.
template <typename T, typename Edges>
double Forward<T, Edges>::summed_link_sq(int64_t b, int64_t r, const Runtime& runtime) const {
  const int64_t n = graphs_.graph(b).n, count = ceil_div(n, kResidualRows);
  std::vector<double> squares(static_cast<size_t>(count));
  run_tasks(runtime, count, [&](int64_t i, int64_t) {
    const Residual<T, Edges> residual(context_, edges_, p(b), b, r);
    squares[static_cast<size_t>(i)] =
        residual.square(i * kResidualRows, std::min((i + 1) * kResidualRows, n));
  });
  return std::accumulate(squares.begin(), squares.end(), 0.0);
}

// The vectors and scalars of a graph, from its tiles and its pooled matrices.
template <typename T, typename Edges>
void Forward<T, Edges>::finish(int64_t b, const Runtime& runtime) {
  const Graph& g = graphs_.graph(b);
  const int64_t R = batch_.R, K = g.k;
  const Sums out = outputs(b);
  constexpr double kNotComputed = std::numeric_limits<double>::quiet_NaN();
  std::fill_n(out.x + K * batch_.F, (batch_.K - K) * batch_.F, T(0));
  if (x_pooled_.data()) {
    rows_.store(at(args_.x_pooled, batch_.x_type, b * batch_.K * batch_.F), batch_.x_type, out.x,
                batch_.K * batch_.F);
  }
  for (int64_t r = 0; r < R; ++r) complete(rows_, out.adj_of(r), K, out.ld, edges_.symmetric(b, r));
  if (args_.gram) complete(rows_, out.gram, K, out.ld, true);
  T* vectors = static_cast<T*>(args_.vectors) + b * (1 + R) * batch_.K;
  std::fill_n(vectors, (1 + R) * batch_.K, T(0));
  double entropy = 0;
  for (int64_t tile = 0; tile < g.tiles; ++tile) {
    for (int64_t r = 0; r <= R; ++r)
      rows_.axpy(vectors + r * batch_.K, T(1), tile_vectors(b, tile) + r * K, K);
    entropy += entropy_[static_cast<size_t>(g.first_tile + tile)];
  }
  entropy_[static_cast<size_t>(g.first_tile)] = entropy;
  const double gram_sq = args_.want_link ? squares(rows_, out.gram, out.ld * K) : 0;
  T* scalars = static_cast<T*>(args_.scalars) + b * (2 + 4 * R);
  scalars[0] = static_cast<T>(g.n);
  scalars[1] = static_cast<T>(args_.want_entropy ? entropy : kNotComputed);
  for (int64_t r = 0; r < R; ++r) {
    EdgeSums sums;
    for (int64_t tile = 0; tile < g.tiles; ++tile) {
      const EdgeSums& part = edge_sums(b, tile, r);
      sums.adj_sq += part.adj_sq;
      sums.total += part.total;
      sums.cut += part.cut;
      sums.trace += part.trace;
    }
    double link_sq = args_.want_link ? sums.adj_sq - 2 * sums.trace + gram_sq : kNotComputed;
    if (cancels<T>(link_sq, sums.adj_sq)) link_sq = summed_link_sq(b, r, runtime);
    link_sq_[static_cast<size_t>(edge(b, r))] = link_sq;
    scalars[2 + r] = static_cast<T>(sums.cut);
    scalars[2 + R + r] = static_cast<T>(std::sqrt(sums.adj_sq));
    scalars[2 + 2 * R + r] = static_cast<T>(sums.total);
    scalars[2 + 3 * R + r] = static_cast<T>(std::sqrt(link_sq));
    if (args_.is_symmetric) args_.is_symmetric[edge(b, r)] = edges_.symmetric(b, r);
  }
}

template <typename T, typename Edges>
void Forward<T, Edges>::totals() {
  constexpr double kNotComputed = std::numeric_limits<double>::quiet_NaN();
  const MeanCounts counts(batch_);
  double entropy = 0;
  for (int64_t b = 0; b < batch_.B; ++b)
    entropy += entropy_[static_cast<size_t>(graphs_.graph(b).first_tile)];
  *static_cast<T*>(args_.total_entropy) =
      static_cast<T>(args_.want_entropy ? entropy / counts.entropy : kNotComputed);
  for (int64_t r = 0; r < batch_.R; ++r) {
    double square = 0;
    for (int64_t b = 0; b < batch_.B; ++b) square += link_sq_[static_cast<size_t>(edge(b, r))];
    static_cast<T*>(args_.link_norm)[r] =
        static_cast<T>(args_.want_link ? std::sqrt(square) / counts.link : kNotComputed);
  }
}

}  // namespace hierpool::cpu
