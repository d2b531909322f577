// The backward of soft pooling with dense adjacency.
#include "cpu/accumulation.h"
#include "cpu/dense_adjacency.h"
#include "cpu/soft_pool_backward.h"

namespace hierpool::cpu {
namespace {

constexpr int64_t kColumnTile = 512;  // columns of A per task of M' = A^T S
constexpr int64_t kBlockStride = kColumnTile + 16;
constexpr int64_t kAdjTile = 64;  // rows of dA per pass

template <typename T>
class DenseEdges : public DenseAdjacencyRows<T> {
  using Base = DenseAdjacencyRows<T>;
  using Base::batch_;
  using Base::context_;
  using Base::kernels_;

 public:
  DenseEdges(const DenseAdjacency& adjacency, const PoolContext<T>& context, const SoftPoolBackward& args)
      : Base(adjacency, context), args_(args), index_(batch_.N + 32, context.runtime) {
    const bool transposes = args.dlogits && (args.dadj || args.dscalars || args.dlink_norm);
    const bool any =
        transposes && std::count(args.is_symmetric, args.is_symmetric + batch_.B * batch_.R, 0) > 0;
    const int64_t of_block = any ? kRowTile * kBlockStride : 0;
    const int64_t of_gradient = args.dadjacency ? kAdjTile * (context.graphs.largest() + batch_.K) : 0;
    scratch_ = Scratch<T>(3 * (batch_.N + 32) + std::max(of_block, of_gradient), context.runtime);
    if (any) transposed_.reserve(batch_.B * batch_.R);
    for (int64_t b = 0; b < batch_.B; ++b) {
      for (int64_t r = 0; any && r < batch_.R; ++r) {
        transposed_.add_copy(symmetric(b, r) ? 0 : this->graph(b).n, this->graph(b).k);
      }
      if (args.dadjacency) columns_.add_copy(this->graph(b).k, this->graph(b).n);
    }
    transposed_.allocate();
    columns_.allocate();
  }

  bool symmetric(int64_t b, int64_t r) const { return args_.is_symmetric[b * batch_.R + r]; }

  template <typename Needs>
  void prepare(int64_t b, const Needs& needs, const RowsView<T>& s, const Runtime& runtime, int64_t thread) {
    const int64_t n = this->graph(b).n, K = this->graph(b).k;
    for (int64_t r = 0; r < batch_.R; ++r) {
      if (!needs(r)) continue;
      run_tasks(runtime, ceil_div(n, kColumnTile), [&](int64_t column, int64_t t) {
        multiply_transposed(b, r, column * kColumnTile, s, thread + t);
      });
    }
    if (args_.dadjacency) {
      run_range_tasks(runtime, n, kRowTile, [&](int64_t begin, int64_t end, int64_t) {
        for (int64_t i = begin; i < end; ++i) {
          for (int64_t k = 0; k < K; ++k) columns_[b].data[k * n + i] = s.row(i)[k];
        }
      });
    }
  }

  const T* transposed_rows(int64_t b, int64_t r, int64_t begin, int64_t, const RowsView<T>&, int64_t) const {
    return transposed_[b * batch_.R + r].row(begin);
  }

  T degree(int64_t b, int64_t r, int64_t i, int64_t thread) const {
    const int64_t n = this->graph(b).n;
    return kernels_.stats(this->row(b, r, i, scratch_.of(thread), 0, n), n).sum;
  }

  void gradient(int64_t b, int64_t r, int64_t begin, int64_t end, const AdjacencyGradient<T>& gradient,
                const RowsView<T>& s, int64_t thread) const {
    for (int64_t i = begin; i < end; i += kAdjTile) {
      gradient_tile(b, r, i, std::min(i + kAdjTile, end), gradient, gradient.constant + (i - begin), s,
                    scratch_.of(thread));
    }
  }

  void finish(int64_t, const RowsView<T>&, const Runtime&) const {}

  void clear_padding(int64_t b, int64_t r) const {
    const int64_t N = batch_.N, bytes = N * element_bytes(this->adjacency_.type);
    context_.for_padding(this->graph(b), [&](int64_t first, int64_t last) {
      void* rows = at(args_.dadjacency, this->adjacency_.type, (context_.first_row(b, r) + first) * N);
      std::memset(rows, 0, static_cast<size_t>((last - first) * bytes));
    });
  }

 private:
  // Rows of M' = A^T S that belong to one tile of columns of A, which is copied together block by block: rows of A
  // a power of two apart share few cache lines.
  void multiply_transposed(int64_t b, int64_t r, int64_t begin, const RowsView<T>& s, int64_t thread) const {
    const Graph& g = this->graph(b);
    const int64_t K = g.k, end = std::min(g.n, begin + kColumnTile);
    const RowsView<T>& out = transposed_[b * batch_.R + r];
    std::fill_n(out.row(begin), (end - begin) * K, T(0));
    T* buffer = scratch_.of(thread);
    T* value = buffer + 2 * (batch_.N + 32);
    T* block = value + batch_.N + 32;
    int32_t* index = index_.of(thread);
    for (int64_t first = 0; first < g.n; first += kRowTile) {
      const int64_t count = std::min(kRowTile, g.n - first);
      int64_t nonzeros = 0;
      for (int64_t i = 0; i < count; ++i) {
        const T* row = this->row(b, r, first + i, buffer, begin, end);
        std::copy_n(row, end - begin, block + i * kBlockStride);
        nonzeros += kernels_.stats(row, end - begin).nonzeros;
      }
      if (this->gathers(nonzeros, count, end - begin, K)) {
        for (int64_t i = 0; i < count; ++i) {
          const int64_t entries = kernels_.nonzeros(block + i * kBlockStride, end - begin, index, value);
          for (int64_t e = 0; e < entries; ++e)
            kernels_.axpy(out.row(begin + index[e]), value[e], s.row(first + i), K);
        }
      } else {
        context_.product_of_transposed(end - begin, K, count, block, kBlockStride, s.row(first), s.ld,
                                       out.row(begin), K, true, {this->of_a(), context_.of_s()});
      }
    }
  }

  void gradient_tile(int64_t b, int64_t r, int64_t begin, int64_t end, const AdjacencyGradient<T>& gradient,
                     const T* constant, const RowsView<T>& s, T* buffer) const {
    const Graph& g = this->graph(b);
    const int64_t n = g.n, N = batch_.N, K = g.k, count = end - begin;
    const DType type = this->adjacency_.type;
    T* left = buffer;                                         // [count, K]
    T* da = left + kAdjTile * K;                              // [count, n]
    T* a_buffer = da + kAdjTile * context_.graphs.largest();  // [2 N]
    if (gradient.core) {
      context_.product(count, K, K, s.row(begin), s.ld, gradient.core, K, left, K, false,
                       {context_.of_s(), context_.of_computed()});
      context_.product(count, n, K, left, K, columns_[b].data, n, da, n, false,
                       {context_.of_computed(), context_.of_s()});
    } else {
      std::fill_n(da, count * n, T(0));
    }
    for (int64_t i = begin; i < end; ++i) {
      T* row = da + (i - begin) * n;
      if (gradient.square != 0)
        add_scaled(kernels_, row, 2 * gradient.square, this->row(b, r, i, a_buffer, 0, n), n);
      for (int64_t j = 0; j < n; ++j) row[j] += constant[i - begin];
      void* out = at(args_.dadjacency, type, (context_.first_row(b, r) + g.row(i)) * N);
      if (g.rows) {
        T* padded = a_buffer;
        std::fill_n(padded, N, T(0));
        for (int64_t j = 0; j < n; ++j) padded[g.rows[j]] = row[j];
        kernels_.store(out, type, padded, N);
      } else {
        kernels_.store(out, type, row, n);
        std::memset(at(out, type, n), 0, static_cast<size_t>((N - n) * element_bytes(type)));
      }
    }
  }

  const SoftPoolBackward& args_;
  RowsViews<T> transposed_, columns_;  // M', and S by columns
  Scratch<T> scratch_;
  Scratch<int32_t> index_;
};

}  // namespace

void soft_pool_bwd(const SoftPoolBackward& args, const DenseAdjacency& adjacency, const Runtime& runtime) {
  with_accumulation_type(args.batch.is_double,
                         [&]<typename T>(T) { Backward<T, DenseEdges<T>>(args, adjacency, runtime).run(); });
}

}  // namespace hierpool::cpu
