// The forward of soft pooling with dense adjacency.
#include <atomic>
#include <memory>

#include "cpu/accumulation.h"
#include "cpu/dense_adjacency.h"
#include "cpu/soft_pool_forward.h"
#include "cpu/symmetry.h"

namespace hierpool::cpu {
namespace {

template <typename T>
class DenseEdges : public DenseAdjacencyRows<T> {
  using Base = DenseAdjacencyRows<T>;
  using Base::batch_;
  using Base::context_;
  using Base::kernels_;

 public:
  // A dense product has to pack S first, which pays for many rows only.
  static constexpr int64_t kTilesPerProduct = 2;

  DenseEdges(const DenseAdjacency& adjacency, const PoolContext<T>& context, const SoftPoolForward& args)
      : Base(adjacency, context),
        detects_(args.is_symmetric && args.symmetric < 0),
        knows_(args.is_symmetric || args.symmetric == 1),
        nonzeros_(static_cast<size_t>(context.graphs.tiles() * batch_.R)),
        asymmetric_(std::make_unique<std::atomic<bool>[]>(static_cast<size_t>(batch_.B * batch_.R))),
        scratch_(3 * (batch_.N + 32) + converted_elements(), context.runtime),
        index_(batch_.N + 32, context.runtime),
        sparse_(sparse_elements(), context.runtime),
        sparse_index_(sparse_elements() + 2 * (kWholeGraph + 1), context.runtime) {
    for (int64_t i = 0; i < batch_.B * batch_.R; ++i)
      asymmetric_[static_cast<size_t>(i)] = args.symmetric == 0;
  }

  int64_t work(int64_t, int64_t) const { return 1; }

  // Degrees, |A|^2, the number of non-zeros, and whether A is symmetric so far.
  void scan(int64_t b, int64_t r, int64_t tile, T* degree, EdgeSums& sums, int64_t thread) {
    const Graph& g = this->graph(b);
    if (g.bounds == nullptr && scan_sparse(b, r, degree, sums, thread)) return;
    int64_t nonzeros = 0;
    for (int64_t i = g.tile_begin(tile); i < g.tile_end(tile); ++i) {
      const RowStats<T> row = kernels_.stats(this->row(b, r, i, scratch_.of(thread), 0, g.n), g.n);
      nonzeros += row.nonzeros;
      sums.adj_sq += row.sum_sq;
      sums.total += row.sum;
      degree[i] = row.sum;
    }
    if (nonzeros > 0 && !holds_squares<T>(sums.adj_sq)) {
      sums.adj_sq = 0;
      for (int64_t i = g.tile_begin(tile); i < g.tile_end(tile); ++i)
        sums.adj_sq += sum_of_squares(this->row(b, r, i, scratch_.of(thread), 0, g.n), g.n);
    }
    nonzeros_[static_cast<size_t>((g.first_tile + tile) * batch_.R + r)] = nonzeros;
    if (detects_) compare_with_transpose(b, r, tile);
  }

  bool symmetric(int64_t b, int64_t r) const { return knows_ && !asymmetric(b, r); }

  void prepare_products(int64_t, const RowsView<T>&) {}

  void multiply(int64_t b, int64_t r, int64_t begin, int64_t end, const RowsView<T>& s, T* out, int64_t ld,
                int64_t thread) const {
    const Graph& g = this->graph(b);
    const int64_t K = g.k;
    T* buffer = scratch_.of(thread);
    if (gathers_graph(b, r)) {
      if (g.bounds == nullptr) return kernels_.spmm32(out, ld, K, s.data, s.ld, sparse(g.n, thread));
      T* value = buffer + 2 * (batch_.N + 32);
      int32_t* index = index_.of(thread);
      for (int64_t i = begin; i < end; ++i) {
        const int64_t count = kernels_.nonzeros(this->row(b, r, i, buffer, 0, g.n), g.n, index, value);
        kernels_.gather(out + (i - begin) * ld, K, s.data, s.ld, index, value, count);
      }
      return;
    }
    const Terms terms{this->of_a(), context_.of_s()};
    if (this->in_place(g)) {
      const T* a = static_cast<const T*>(this->adjacency_.data) + this->offset(b, r, begin);
      context_.product(end - begin, K, g.n, a, this->adjacency_.stride_n, s.data, s.ld, out, ld, false);
    } else if (this->split_in_place(g) && context_.splits(end - begin, K, g.n, terms)) {
      const void* a = at(this->adjacency_.data, DType::bf16, this->offset(b, r, begin));
      context_.split_product(end - begin, K, g.n, {a, DType::bf16, this->adjacency_.stride_n, 1}, s.data,
                             s.ld, out, ld, false, terms);
    } else {
      T* a = buffer + 3 * (batch_.N + 32);
      const int64_t step = context_.graphs.largest_tile();
      for (int64_t first = begin; first < end; first += step) {
        const int64_t count = std::min(step, end - first);
        for (int64_t i = 0; i < count; ++i) {
          std::copy_n(this->row(b, r, first + i, buffer, 0, g.n), g.n, a + i * g.n);
        }
        context_.product(count, K, g.n, a, g.n, s.data, s.ld, out + (first - begin) * ld, ld, false, terms);
      }
    }
  }

 private:
  // The most entries of sparse rows of a graph that is one task. There may be too many when the next kRows are read.
  static constexpr int64_t kRows = 16;
  int64_t sparse_elements() const {
    int64_t n = 0;
    for (int64_t b = 0; b < batch_.B; ++b) {
      if (this->graph(b).bounds == nullptr) n = std::max(n, this->graph(b).n);
    }
    return n * n / 4 + kRows * n + 32;
  }
  int32_t* columns(int64_t thread) const { return sparse_index_.of(thread) + 2 * (kWholeGraph + 1); }
  SparseRows<T, int32_t> sparse(int64_t n, int64_t thread) const {
    return {n, sparse_index_.of(thread), columns(thread), sparse_.of(thread)};
  }

  // All of scan() by sparse rows, which stay for multiply(). False if there are too many entries.
  bool scan_sparse(int64_t b, int64_t r, T* degree, EdgeSums& sums, int64_t thread) {
    const Graph& g = this->graph(b);
    int32_t* rowptr = sparse_index_.of(thread);
    T* value = sparse_.of(thread);
    rowptr[0] = 0;
    const bool in_place = this->in_place(g);
    for (int64_t i = 0; i < g.n; i += kRows) {
      const int64_t end = std::min(i + kRows, g.n), step = in_place ? end - i : 1;
      for (int64_t row = i; row < end; row += step) {
        const T* a = this->row(b, r, row, scratch_.of(thread), 0, g.n);
        kernels_.sparse_rows(a, this->adjacency_.stride_n, step, g.n, rowptr + row, columns(thread), value,
                             degree + row);
      }
      if (!this->gathers(rowptr[end], g.n, g.n, g.k)) return false;
    }
    const int64_t entries = g.n ? rowptr[g.n] : 0;
    double square = squares(kernels_, value, entries), total = 0;
    if (entries > 0 && !holds_squares<T>(square)) square = sum_of_squares(value, entries);
    for (int64_t i = 0; i < g.n; ++i) total += degree[i];
    sums.adj_sq += square, sums.total += total;
    nonzeros_[static_cast<size_t>(g.first_tile * batch_.R + r)] = entries;
    if (detects_ && !equals_transpose(sparse(g.n, thread), rowptr + kWholeGraph + 1))
      asymmetric(b, r).store(true, std::memory_order_relaxed);
    return true;
  }

  std::atomic<bool>& asymmetric(int64_t b, int64_t r) const {
    return asymmetric_[static_cast<size_t>(b * batch_.R + r)];
  }

  // Rows of A that were converted to T, for the dense product.
  int64_t converted_elements() const {
    for (int64_t b = 0; b < batch_.B; ++b) {
      if (!this->in_place(this->graph(b))) return context_.graphs.largest_tile() * context_.graphs.largest();
    }
    return 0;
  }

  bool gathers_graph(int64_t b, int64_t r) const {
    const Graph& g = this->graph(b);
    int64_t nonzeros = 0;
    for (int64_t tile = g.first_tile; tile < g.first_tile + g.tiles; ++tile) {
      nonzeros += nonzeros_[static_cast<size_t>(tile * batch_.R + r)];
    }
    return this->gathers(nonzeros, g.n, g.n, g.k);
  }

  // Blocks on and below the diagonal against their mirror images, until one differs.
  void compare_with_transpose(int64_t b, int64_t r, int64_t tile) {
    const Graph& g = this->graph(b);
    const DenseAdjacency& adjacency = this->adjacency_;
    const char* a = at(adjacency.data, adjacency.type, this->offset(b, r, 0));
    for (int64_t i0 = g.tile_begin(tile); i0 < g.tile_end(tile); i0 += Block::kSize) {
      const int64_t i1 = std::min(i0 + Block::kSize, g.tile_end(tile));
      for (int64_t j0 = 0; j0 < i1; j0 += Block::kSize) {
        if (asymmetric(b, r).load(std::memory_order_relaxed)) return;
        const Block block{i0, i1, j0, std::min(j0 + Block::kSize, i1)};
        if (differs_from_mirror(kernels_, a, adjacency.type, adjacency.stride_n, g, block)) {
          asymmetric(b, r).store(true, std::memory_order_relaxed);
        }
      }
    }
  }

  bool detects_, knows_;
  std::vector<int64_t> nonzeros_;  // [tiles, R]
  std::unique_ptr<std::atomic<bool>[]> asymmetric_;
  Scratch<T> scratch_;
  Scratch<int32_t> index_;
  // Of the graph at hand of a thread, if it is one task and sparse: values; then row pointers, the memory of
  // equals_transpose(), and columns.
  Scratch<T> sparse_;
  Scratch<int32_t> sparse_index_;
};

}  // namespace

void soft_pool_fwd(const SoftPoolForward& args, const DenseAdjacency& adjacency, const Runtime& runtime) {
  with_accumulation_type(args.batch.is_double,
                         [&]<typename T>(T) { Forward<T, DenseEdges<T>>(args, adjacency, runtime).run(); });
}

}  // namespace hierpool::cpu
