// Soft pooling of ragged batches, whose adjacency is one sparse block-diagonal matrix.
#include "cpu/accumulation.h"
#include "cpu/csr_rows.h"
#include "cpu/soft_pool_backward.h"
#include "cpu/soft_pool_forward.h"

namespace hierpool::cpu {
namespace {

template <typename T>
class CsrEdges {
 public:
  using Adjacency = CsrAdjacency;

  static std::vector<int64_t> cut(const CsrAdjacency& adjacency, int64_t first_row, int64_t n) {
    const CsrProduct<T> a(adjacency.a, row_kernels<T>(isa_in_force()));
    if (n <= kWholeGraph && a.entries(first_row, first_row + n) <= kTaskEntries) return {};
    std::vector<int64_t> bounds = a.cut(first_row, first_row + n, kRowTile);
    for (int64_t& bound : bounds) bound -= first_row;
    return bounds;
  }

  // See Residual.
  void subtract(int64_t b, int64_t, const Tile& tile, T* out, int64_t ld, T*) const {
    subtract(a_, graph(b), tile, out, ld);
  }

 protected:
  CsrEdges(const CsrAdjacency& adjacency, const PoolContext<T>& context)
      : a_(adjacency.a, context.kernels), context_(context), kernels_(context.kernels) {}

  const Graph& graph(int64_t b) const { return context_.graphs.graph(b); }

  // Number of entries, sum and sum of squares of a row.
  RowStats<T> stats(int64_t row) const {
    const int64_t count = a_.entries(row, row + 1);
    if (a_.values() == nullptr) return {count, static_cast<T>(count), static_cast<T>(count)};
    return kernels_.stats(a_.values() + a_.row_begin(row), count);
  }

  // out -= a on a tile
  static void subtract(const CsrProduct<T>& a, const Graph& g, const Tile& tile, T* out, int64_t ld) {
    for (int64_t i = tile.i0; i < tile.i1; ++i, out += ld) {
      const int64_t row = g.first_row + i, end = a.row_begin(row + 1);
      for (int64_t e = a.row_begin(row); e < end; ++e) {
        const int64_t j = a.column(e) - g.first_row;
        if (j >= tile.j0 && j < tile.j1) out[j - tile.j0] -= a.values() ? a.values()[e] : T(1);
      }
    }
  }

  // Rows [begin, end) of a graph in the product of `a` with S, `ld` apart. Columns count all nodes of the batch.
  void multiply(const CsrProduct<T>& a, const Graph& g, int64_t begin, int64_t end, const RowsView<T>& s,
                T* out, int64_t ld, const typename CsrProduct<T>::Hubs& hubs) const {
    a.multiply(out, ld, g.k, s.data - g.first_row * s.ld, s.ld, g.first_row + begin, g.first_row + end, hubs);
  }
  typename CsrProduct<T>::Hubs hubs(const CsrProduct<T>& a, const Graph& g, const RowsView<T>& s,
                                    const Runtime& runtime) const {
    return a.multiply_hubs(runtime, g.k, s.data - g.first_row * s.ld, s.ld, g.first_row, g.first_row + g.n);
  }

  const CsrProduct<T> a_;
  const PoolContext<T>& context_;
  const RowKernels<T>& kernels_;
};

template <typename T>
class ForwardEdges : public CsrEdges<T> {
 public:
  static constexpr int64_t kTilesPerProduct = 1;

  ForwardEdges(const CsrAdjacency& adjacency, const PoolContext<T>& context, const SoftPoolForward& args)
      : CsrEdges<T>(adjacency, context), symmetric_(args.symmetric == 1) {}

  int64_t work(int64_t b, int64_t tile) const {
    constexpr int64_t kEntriesOfRow = 8;  // what the products of a row of S take, in gathered entries
    const Graph& g = this->graph(b);
    const int64_t rows = g.tile_end(tile) - g.tile_begin(tile);
    const int64_t entries =
        this->a_.entries(g.first_row + g.tile_begin(tile), g.first_row + g.tile_end(tile));
    return kEntriesOfRow * rows + std::min(entries, kTaskEntries);
  }

  void scan(int64_t b, int64_t, int64_t tile, T* degree, EdgeSums& sums, int64_t) const {
    const Graph& g = this->graph(b);
    for (int64_t i = g.tile_begin(tile); i < g.tile_end(tile); ++i) {
      const RowStats<T> row = this->stats(g.first_row + i);
      sums.adj_sq += row.sum_sq;
      sums.total += row.sum;
      degree[i] = row.sum;
    }
    if (const T* value = this->a_.values(); value && !holds_squares<T>(sums.adj_sq)) {
      const int64_t begin = g.first_row + g.tile_begin(tile), end = g.first_row + g.tile_end(tile);
      sums.adj_sq = sum_of_squares(value + this->a_.row_begin(begin), this->a_.entries(begin, end));
    }
  }

  bool symmetric(int64_t, int64_t) const { return symmetric_; }

  void prepare_products(int64_t b, const RowsView<T>& s) {
    hubs_ = this->hubs(this->a_, this->graph(b), s, this->context_.runtime);
  }

  void multiply(int64_t b, int64_t, int64_t begin, int64_t end, const RowsView<T>& s, T* out, int64_t ld,
                int64_t) const {
    const Graph& g = this->graph(b);
    CsrEdges<T>::multiply(this->a_, g, begin, end, s, out, ld, g.bounds ? hubs_ : none_);
  }

 private:
  bool symmetric_;
  typename CsrProduct<T>::Hubs hubs_, none_;  // of the cut graph at hand, and of those that are not cut
};

template <typename T>
class BackwardEdges : public CsrEdges<T> {
 public:
  BackwardEdges(const CsrAdjacency& adjacency, const PoolContext<T>& context, const SoftPoolBackward& args)
      : CsrEdges<T>(adjacency, context),
        transposed_(adjacency.transposed, context.kernels),
        symmetric_(adjacency.transposed.rowptr == nullptr),
        dvalue_(static_cast<T*>(args.dadjacency)),
        scratch_(context.graphs.largest_tile() * context.batch.K, context.runtime) {}

  bool symmetric(int64_t, int64_t) const { return symmetric_; }

  template <typename Needs>
  void prepare(int64_t b, const Needs& needs, const RowsView<T>& s, const Runtime& runtime, int64_t) {
    const Graph& g = this->graph(b);
    if (g.bounds && needs(0)) hubs_ = this->hubs(transposed_, g, s, runtime);
    hub_gradients_.clear();
    if (g.bounds == nullptr || dvalue_ == nullptr) return;
    for (int64_t i = g.first_row; i < g.first_row + g.n; ++i) {
      if (this->a_.is_hub(i)) hub_gradients_.push_back({i, {}, T(0), 0});
    }
  }

  const T* transposed_rows(int64_t b, int64_t, int64_t begin, int64_t end, const RowsView<T>& s,
                           int64_t thread) const {
    const Graph& g = this->graph(b);
    T* out = scratch_.of(thread);
    this->multiply(transposed_, g, begin, end, s, out, g.k, g.bounds ? hubs_ : none_);
    return out;
  }

  void subtract_transposed(int64_t b, int64_t, const Tile& tile, T* out, int64_t ld, T*) const {
    CsrEdges<T>::subtract(transposed_, this->graph(b), tile, out, ld);
  }

  T degree(int64_t b, int64_t, int64_t i, int64_t) const {
    return this->stats(this->graph(b).first_row + i).sum;
  }

  void gradient(int64_t b, int64_t, int64_t begin, int64_t end, const AdjacencyGradient<T>& gradient,
                const RowsView<T>& s, int64_t thread) {
    const Graph& g = this->graph(b);
    const CsrProduct<T>& a = this->a_;
    const int64_t first = g.first_row + begin, last = g.first_row + end, K = g.k;
    T* left = scratch_.of(thread);
    if (gradient.core) {
      this->context_.product(end - begin, K, K, s.row(begin), s.ld, gradient.core, K, left, K, false);
    }
    if (a.is_hub(first)) {  // a tile of its own, left to finish()
      HubGradient& hub = *std::lower_bound(hub_gradients_.begin(), hub_gradients_.end(), first,
                                           [](const HubGradient& h, int64_t row) { return h.row < row; });
      if (gradient.core) hub.left.assign(left, left + K);
      hub.constant = gradient.constant[0], hub.square = gradient.square;
      return;
    }
    if (gradient.core) a.sampled(dvalue_, K, left, K, s.data - g.first_row * s.ld, s.ld, first, last);
    for (int64_t i = first; i < last; ++i) {
      add_constants(a.row_begin(i), a.row_begin(i + 1), gradient.constant[i - first], gradient.square,
                    gradient.core == nullptr);
    }
  }

  // Entries of hub rows, shared by all threads.
  void finish(int64_t b, const RowsView<T>& s, const Runtime& runtime) {
    const T* rows = s.data - this->graph(b).first_row * s.ld;
    for (const HubGradient& hub : hub_gradients_) {
      const int64_t begin = this->a_.row_begin(hub.row), end = this->a_.row_begin(hub.row + 1);
      run_range_tasks(runtime, end - begin, kTaskEntries, [&](int64_t from, int64_t to, int64_t) {
        const int64_t first = begin + from, last = begin + to;
        if (!hub.left.empty()) {
          this->a_.sampled_part(dvalue_, this->graph(b).k, hub.left.data(), rows, s.ld, first, last);
        }
        add_constants(first, last, hub.constant, hub.square, hub.left.empty());
      });
    }
  }

  void clear_padding(int64_t, int64_t) const {}

 private:
  struct HubGradient {
    int64_t row;
    std::vector<T> left;  // [K], or empty for zero
    T constant;
    double square;
  };

  void add_constants(int64_t first, int64_t last, T constant, double square, bool overwrite) const {
    const T* value = this->a_.values();
    for (int64_t e = first; e < last; ++e) {
      const T term = constant + static_cast<T>(2 * square * static_cast<double>(value ? value[e] : T(1)));
      dvalue_[e] = overwrite ? term : dvalue_[e] + term;
    }
  }

  const CsrProduct<T> transposed_;
  bool symmetric_;
  T* dvalue_;  // [E]
  Scratch<T> scratch_;
  typename CsrProduct<T>::Hubs hubs_, none_;
  std::vector<HubGradient> hub_gradients_;  // of the cut graph at hand, by ascending row
};

}  // namespace

void soft_pool_fwd(const SoftPoolForward& args, const CsrAdjacency& adjacency, const Runtime& runtime) {
  with_accumulation_type(args.batch.is_double,
                         [&]<typename T>(T) { Forward<T, ForwardEdges<T>>(args, adjacency, runtime).run(); });
}

void soft_pool_bwd(const SoftPoolBackward& args, const CsrAdjacency& adjacency, const Runtime& runtime) {
  with_accumulation_type(args.batch.is_double, [&]<typename T>(T) {
    Backward<T, BackwardEdges<T>>(args, adjacency, runtime).run();
  });
}

}  // namespace hierpool::cpu
