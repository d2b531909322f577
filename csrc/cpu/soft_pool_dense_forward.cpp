// S = m * softmax(L / T), X' = S^T X, A' = S^T A S and the sums beside them; see the contract.
//
// A small graph is one task, start to end, while it is in cache. A large one is cut into row tiles and goes through
// the same four steps with all threads at each: assign, scan, multiply, sum.
#include <atomic>
#include <cmath>
#include <limits>

#include "cpu/dense_batch.h"
#include "cpu/symmetry.h"

namespace hierpool::cpu {
namespace {

constexpr int64_t kSegments = 8;  // partial sums over the nodes of a large graph
constexpr int64_t kSlab = 64;     // rows of S^T per task when they are summed
constexpr int64_t kTilesPerProduct = 2;

struct EdgeSums {
  double adj_sq = 0, total = 0, cut = 0, trace = 0;
  int64_t nonzeros = 0;
};

template <typename T>
class Forward : DenseProblem<T> {
  using Base = DenseProblem<T>;
  using Base::batch_;
  using Base::graphs_;
  using Base::rows_;
  using Base::runtime_;

 public:
  Forward(const SoftPoolDenseForward& args, const Runtime& runtime)
      : Base(args.batch, runtime),
        args_(args),
        edge_sums_(static_cast<size_t>(graphs_.tiles() * batch_.R)),
        entropy_(static_cast<size_t>(graphs_.tiles())),
        asymmetric_(std::make_unique<std::atomic<bool>[]>(static_cast<size_t>(batch_.B * batch_.R))) {
    for (int64_t i = 0; i < batch_.B * batch_.R; ++i)
      asymmetric_[static_cast<size_t>(i)] = args.symmetric == 0;
    place_views();
    vectors_ = Buffer<T>(graphs_.tiles() * (1 + batch_.R) * batch_.K);
    link_sq_.assign(static_cast<size_t>(batch_.B * batch_.R), 0.0);
    scratch_size_ = 3 * (batch_.N + 32) + dense_tile_elements();
    scratch_ = Buffer<T>(scratch_size_ * std::max<int64_t>(runtime.threads, 1));
    index_ = Buffer<int32_t>((batch_.N + 32) * std::max<int64_t>(runtime.threads, 1));
  }

  void run() {
    std::vector<int64_t> whole, cut;
    for (int64_t b : graphs_.by_size()) (graphs_.graph(b).tiles == 1 ? whole : cut).push_back(b);
    for (int64_t b : cut) run_cut(b);
    run_tasks(runtime_, static_cast<int64_t>(whole.size()),
              [&](int64_t i, int64_t thread) { run_whole(whole[static_cast<size_t>(i)], thread); });
    totals();
  }

 private:
  int64_t edge(int64_t b, int64_t r) const { return b * batch_.R + r; }
  T* scratch(int64_t thread) const { return scratch_.data() + thread * scratch_size_; }
  const RowsView<T>& p(int64_t b) const { return p_[b]; }
  const RowsView<T>& x(int64_t b) const { return x_[b]; }
  const RowsView<T>& m(int64_t b, int64_t r) const { return m_[edge(b, r)]; }
  EdgeSums& edge_sums(int64_t b, int64_t tile, int64_t r) {
    return edge_sums_[static_cast<size_t>((graphs_.graph(b).first_tile + tile) * batch_.R + r)];
  }
  T* tile_vectors(int64_t b, int64_t tile) const {
    return vectors_.data() + (graphs_.graph(b).first_tile + tile) * (1 + batch_.R) * batch_.K;
  }

  // Rows of A that were converted to T, for the dense product.
  int64_t dense_tile_elements() const {
    for (int64_t b = 0; b < batch_.B; ++b) {
      if (!this->adj_in_place(graphs_.graph(b))) return graphs_.largest_tile() * graphs_.largest();
    }
    return 0;
  }

  // S, X and M as compact rows of T: in place where they are that already, else in memory of our own.
  void place_views() {
    const int64_t N = batch_.N, K = batch_.K;
    for (int64_t b = 0; b < batch_.B; ++b) {
      const Graph& g = graphs_.graph(b);
      this->place(p_, g, args_.s, batch_.s_type, b * N * K, K, K);
      this->place(x_, g, batch_.x, batch_.x_type, b * batch_.x_stride_b, batch_.x_stride_n, batch_.F);
      for (int64_t r = 0; r < batch_.R; ++r) {
        this->place(m_, g, args_.m, dtype_of<T>(), edge(b, r) * N * K, K, K);
      }
    }
    for (auto* views : {&p_, &x_, &m_}) views->allocate();
  }

  void run_whole(int64_t b, int64_t thread) {
    const Graph& g = graphs_.graph(b);
    assign(b, 0);
    for (int64_t r = 0; r < batch_.R; ++r) {
      scan(b, r, 0, scratch(thread));
      multiply(b, r, 0, g.n, gathers_graph(b, r), thread);
      sum_products(b, r, 0);
    }
    sum(b, 0, g.n, 0, batch_.K, outputs(b));
    finish(b);
  }

  void run_cut(int64_t b) {
    const Graph& g = graphs_.graph(b);
    const int64_t R = batch_.R, K = batch_.K;
    run_tasks(runtime_, g.tiles, [&](int64_t tile, int64_t) { assign(b, tile); });
    run_tasks(runtime_, g.tiles * R,
              [&](int64_t i, int64_t thread) { scan(b, i % R, i / R, scratch(thread)); });
    // A dense product has to pack S first, which pays for many rows only.
    const int64_t groups = ceil_div(g.tiles, kTilesPerProduct);
    run_tasks(runtime_, groups * R, [&](int64_t i, int64_t thread) {
      const int64_t r = i % R, first = i / R * kTilesPerProduct,
                    last = std::min(g.tiles, first + kTilesPerProduct);
      multiply(b, r, g.tile_begin(first), g.tile_end(last - 1), gathers_graph(b, r), thread);
      for (int64_t tile = first; tile < last; ++tile) sum_products(b, r, tile);
    });
    // Each segment of the nodes has sums of its own, which are then added in order.
    const int64_t segments = std::min(kSegments, ceil_div(g.tiles, 2));
    const int64_t slabs = ceil_div(K, kSlab);
    const int64_t size = K * (batch_.F + R * K + K);
    const Buffer<T> partial((segments - 1) * size);
    const auto target = [&](int64_t segment) {
      if (segment == 0) return outputs(b);
      T* base = partial.data() + (segment - 1) * size;
      return Sums{base, base + K * batch_.F, args_.gram ? base + K * (batch_.F + R * K) : nullptr};
    };
    const auto bound = [&](int64_t segment) { return g.tile_begin(g.tiles * segment / segments); };
    run_tasks(runtime_, segments * slabs, [&](int64_t i, int64_t) {
      const int64_t segment = i / slabs, first = i % slabs * kSlab;
      const int64_t end = segment + 1 == segments ? g.n : bound(segment + 1);
      sum(b, bound(segment), end, first, std::min(K, first + kSlab), target(segment));
    });
    run_tasks(runtime_, slabs, [&](int64_t slab, int64_t) {
      const int64_t first = slab * kSlab, count = std::min(K, first + kSlab) - first;
      const Sums out = outputs(b);
      for (int64_t segment = 1; segment < segments; ++segment) {
        const Sums in = target(segment);
        rows_.axpy(out.x + first * batch_.F, T(1), in.x + first * batch_.F, count * batch_.F);
        const auto add = [&](T* to, const T* from, bool symmetric) {
          const int64_t width = symmetric ? first + count : K;
          for (int64_t k = first; k < first + count; ++k) rows_.axpy(to + k * K, T(1), from + k * K, width);
        };
        for (int64_t r = 0; r < R; ++r) add(out.adj + r * K * K, in.adj + r * K * K, known_symmetric(b, r));
        if (out.gram) add(out.gram, in.gram, true);
      }
    });
    finish(b);
  }

  // Rows of S with their entropy and column sums, and rows of X where a copy is needed.
  void assign(int64_t b, int64_t tile) {
    const Graph& g = graphs_.graph(b);
    const int64_t begin = g.tile_begin(tile), end = g.tile_end(tile), K = batch_.K;
    const DType type = batch_.s_type;
    const T scale = static_cast<T>(batch_.inverse_temperature);
    T* size = tile_vectors(b, tile);
    std::fill_n(size, (1 + batch_.R) * K, T(0));
    double entropy = 0;
    for (int64_t i = begin; i < end; ++i) {
      const char* logits =
          at(args_.logits, type, b * args_.logits_stride_b + g.row(i) * args_.logits_stride_n);
      void* s = at(args_.s, type, (b * batch_.N + g.row(i)) * K);
      T* row = p(b).row(i);
      const T* source = reinterpret_cast<const T*>(logits);
      if (type != dtype_of<T>() || batch_.given) {
        rows_.load(row, logits, type, K);
        source = row;
      }
      T entropy_of_row = 0;
      if (!batch_.given) entropy_of_row = rows_.softmax(row, source, K, scale);
      if (p(b).copied) rows_.store(s, type, row, K);
      if (type != dtype_of<T>()) rows_.load(row, s, type, K);  // every sum sees S as it is returned
      if (args_.want_entropy) {
        entropy += batch_.given || type != dtype_of<T>() ? rows_.entropy(row, K) : entropy_of_row;
      }
      rows_.axpy(size, T(1), row, K);
    }
    entropy_[static_cast<size_t>(g.first_tile + tile)] = entropy;
    if (x(b).copied) {
      this->load_rows(x(b).row(begin), at(batch_.x, batch_.x_type, b * batch_.x_stride_b), batch_.x_type,
                      batch_.x_stride_n, g, begin, end, batch_.F);
    }
    if (tile == 0) {
      const int64_t bytes = K * element_bytes(type);
      this->for_padding(g, [&](int64_t first, int64_t last) {
        std::memset(at(args_.s, type, (b * batch_.N + first) * K), 0,
                    static_cast<size_t>((last - first) * bytes));
      });
    }
  }

  // Degrees, |A|^2, the number of non-zeros, and whether A is symmetric so far.
  void scan(int64_t b, int64_t r, int64_t tile, T* buffer) {
    const Graph& g = graphs_.graph(b);
    EdgeSums& sums = edge_sums(b, tile, r);
    T* degree = degrees(b, r);
    for (int64_t i = g.tile_begin(tile); i < g.tile_end(tile); ++i) {
      const RowStats<T> row = rows_.stats(this->adj_row(b, r, i, buffer, 0, g.n), g.n);
      sums.nonzeros += row.nonzeros;
      sums.adj_sq += row.sum_sq;
      sums.total += row.sum;
      degree[i] = row.sum;
    }
    if (args_.is_symmetric && args_.symmetric < 0) compare_with_transpose(b, r, tile);
  }

  // Degrees are kept for all nodes of the graph, in compact order.
  T* degrees(int64_t b, int64_t r) const { return degree_.data() + edge(b, r) * batch_.N; }

  void compare_with_transpose(int64_t b, int64_t r, int64_t tile);
  bool gathers_graph(int64_t b, int64_t r) {
    const Graph& g = graphs_.graph(b);
    int64_t nonzeros = 0;
    for (int64_t tile = 0; tile < g.tiles; ++tile) nonzeros += edge_sums(b, tile, r).nonzeros;
    return this->gathers(nonzeros, g.n * g.n);
  }

  // Rows [begin, end) of M = A S.
  void multiply(int64_t b, int64_t r, int64_t begin, int64_t end, bool gather, int64_t thread) {
    const Graph& g = graphs_.graph(b);
    const int64_t K = batch_.K;
    const RowsView<T>& s = p(b);
    const RowsView<T>& product = m(b, r);
    T* buffer = scratch(thread);
    if (gather) {
      T* value = buffer + 2 * (batch_.N + 32);
      int32_t* index = index_.data() + thread * (batch_.N + 32);
      for (int64_t i = begin; i < end; ++i) {
        const int64_t count = rows_.nonzeros(this->adj_row(b, r, i, buffer, 0, g.n), g.n, index, value);
        rows_.gather(product.row(i), K, s.data, s.ld, index, value, count);
      }
    } else if (this->adj_in_place(g)) {
      const T* a = static_cast<const T*>(batch_.adj) + this->adj_offset(b, r, begin);
      this->product(end - begin, K, g.n, a, batch_.adj_stride_n, s.data, s.ld, product.row(begin), K, false);
    } else {
      T* a = buffer + 3 * (batch_.N + 32);
      for (int64_t first = begin; first < end; first += graphs_.largest_tile()) {
        const int64_t count = std::min(graphs_.largest_tile(), end - first);
        for (int64_t i = 0; i < count; ++i) {
          std::copy_n(this->adj_row(b, r, first + i, buffer, 0, g.n), g.n, a + i * g.n);
        }
        this->product(count, K, g.n, a, g.n, s.data, s.ld, product.row(first), K, false);
      }
    }
  }

  // The sums over the rows of a tile that need M or the degrees.
  void sum_products(int64_t b, int64_t r, int64_t tile) {
    const Graph& g = graphs_.graph(b);
    const int64_t K = batch_.K;
    const RowsView<T>& product = m(b, r);
    EdgeSums& sums = edge_sums(b, tile, r);
    T* volume = tile_vectors(b, tile) + (1 + r) * K;
    for (int64_t i = g.tile_begin(tile); i < g.tile_end(tile); ++i) {
      const T degree = degrees(b, r)[i];
      const AssignmentSums<T> products =
          rows_.assignment_sums(volume, degree, p(b).row(i), product.row(i), K);
      sums.trace += products.trace;
      sums.cut += static_cast<double>(degree) * products.square;
      if (args_.m && product.copied) {
        std::copy_n(product.row(i), K, static_cast<T*>(args_.m) + (edge(b, r) * batch_.N + g.row(i)) * K);
      }
    }
  }

  struct Sums {
    T* x;     // [K, F]
    T* adj;   // [R, K, K]
    T* gram;  // [K, K] or null
  };

  Sums outputs(int64_t b) const {
    const int64_t K = batch_.K;
    T* pooled = x_pooled_.data() ? x_pooled_.data() + b * K * batch_.F
                                 : static_cast<T*>(args_.x_pooled) + b * K * batch_.F;
    return {pooled, static_cast<T*>(args_.adj_pooled) + b * batch_.R * K * K,
            args_.gram ? static_cast<T*>(args_.gram) + b * K * K : nullptr};
  }

  // Rows [first, last) of S^T X, S^T M and S^T S over the nodes [begin, end). Of matrices that are symmetric, the blocks
  // above the diagonal are left to finish().
  void sum(int64_t b, int64_t begin, int64_t end, int64_t first, int64_t last, Sums out) {
    const int64_t K = batch_.K, F = batch_.F, n = end - begin;
    const RowsView<T>& s = p(b);
    this->product_of_transposed(last - first, F, n, s.row(begin) + first, s.ld, x(b).row(begin), x(b).ld,
                                out.x + first * F, F, false);
    const auto square = [&](const T* right, int64_t ld, T* target, bool symmetric) {
      for (int64_t k = first; k < last; k += kSlab) {
        const int64_t k_end = std::min(k + kSlab, last);
        this->product_of_transposed(k_end - k, symmetric ? k_end : K, n, s.row(begin) + k, s.ld, right, ld,
                                    target + k * K, K, false);
      }
    };
    for (int64_t r = 0; r < batch_.R; ++r) {
      square(m(b, r).row(begin), K, out.adj + r * K * K, known_symmetric(b, r));
    }
    if (out.gram) square(s.row(begin), s.ld, out.gram, true);
  }

  bool known_symmetric(int64_t b, int64_t r) const {
    return (args_.symmetric == 1 || args_.is_symmetric) && !asymmetric_[static_cast<size_t>(edge(b, r))];
  }

  void mirror(T* matrix) const {
    const int64_t K = batch_.K;
    for (int64_t k = 0; k < K; ++k) {
      for (int64_t l = (k / kSlab + 1) * kSlab; l < K; ++l) matrix[k * K + l] = matrix[l * K + k];
    }
  }

  void finish(int64_t b);
  void totals();

  const SoftPoolDenseForward& args_;
  RowsViews<T> p_, x_, m_;
  Buffer<T> vectors_, scratch_;
  Buffer<T> degree_{batch_.B * batch_.R * batch_.N};
  Buffer<T> x_pooled_ =
      batch_.x_type == dtype_of<T>() ? Buffer<T>() : Buffer<T>(batch_.B * batch_.K * batch_.F);
  Buffer<int32_t> index_;
  int64_t scratch_size_ = 0;
  std::vector<EdgeSums> edge_sums_;
  std::vector<double> entropy_;
  std::vector<double> link_sq_;
  std::unique_ptr<std::atomic<bool>[]> asymmetric_;
};

// Blocks on and below the diagonal against their mirror images, bit for bit, until one differs.
template <typename T>
void Forward<T>::compare_with_transpose(int64_t b, int64_t r, int64_t tile) {
  const Graph& g = graphs_.graph(b);
  std::atomic<bool>& found = asymmetric_[static_cast<size_t>(edge(b, r))];
  const char* a = at(batch_.adj, batch_.adj_type, this->adj_offset(b, r, 0));
  for (int64_t i0 = g.tile_begin(tile); i0 < g.tile_end(tile); i0 += Block::kSize) {
    const int64_t i1 = std::min(i0 + Block::kSize, g.tile_end(tile));
    for (int64_t j0 = 0; j0 < i1; j0 += Block::kSize) {
      if (found.load(std::memory_order_relaxed)) return;
      const int64_t j1 = std::min(j0 + Block::kSize, i1);
      const Block block{i0, i1, j0, j1};
      const bool differ = differs_from_mirror(a, batch_.adj_type, batch_.adj_stride_n, g, block);
      if (differ) found.store(true, std::memory_order_relaxed);
    }
  }
}

// The vectors and scalars of a graph, from its tiles and its pooled matrices.
template <typename T>
void Forward<T>::finish(int64_t b) {
  const Graph& g = graphs_.graph(b);
  const int64_t R = batch_.R, K = batch_.K;
  constexpr double kNotComputed = std::numeric_limits<double>::quiet_NaN();
  if (x_pooled_.data()) {
    rows_.store(at(args_.x_pooled, batch_.x_type, b * K * batch_.F), batch_.x_type, outputs(b).x,
                K * batch_.F);
  }
  for (int64_t r = 0; r < R; ++r) {
    if (known_symmetric(b, r)) mirror(outputs(b).adj + r * K * K);
  }
  if (args_.gram) mirror(outputs(b).gram);
  T* vectors = static_cast<T*>(args_.vectors) + b * (1 + R) * K;
  std::fill_n(vectors, (1 + R) * K, T(0));
  double entropy = 0;
  for (int64_t tile = 0; tile < g.tiles; ++tile) {
    rows_.axpy(vectors, T(1), tile_vectors(b, tile), (1 + R) * K);
    entropy += entropy_[static_cast<size_t>(g.first_tile + tile)];
  }
  entropy_[static_cast<size_t>(g.first_tile)] = entropy;
  double gram_sq = 0;
  if (args_.want_link) {
    for (int64_t k = 0; k < K; ++k) {
      const T* row = outputs(b).gram + k * K;
      gram_sq += rows_.dot(row, row, K);
    }
  }
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
    // A difference of large sums; NaN stays NaN.
    double link_sq = sums.adj_sq - 2 * sums.trace + gram_sq;
    if (link_sq < 0) link_sq = 0;
    if (!args_.want_link) link_sq = kNotComputed;
    link_sq_[static_cast<size_t>(edge(b, r))] = link_sq;
    scalars[2 + r] = static_cast<T>(sums.cut);
    scalars[2 + R + r] = static_cast<T>(sums.adj_sq);
    scalars[2 + 2 * R + r] = static_cast<T>(sums.total);
    scalars[2 + 3 * R + r] = static_cast<T>(link_sq);
    if (args_.is_symmetric)
      args_.is_symmetric[edge(b, r)] = !asymmetric_[static_cast<size_t>(edge(b, r))].load();
  }
}

template <typename T>
void Forward<T>::totals() {
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

}  // namespace

void soft_pool_dense_forward(const SoftPoolDenseForward& args, const Runtime& runtime) {
  if (args.batch.wide) {
    Forward<double>(args, runtime).run();
  } else {
    Forward<float>(args, runtime).run();
  }
}

}  // namespace hierpool::cpu
