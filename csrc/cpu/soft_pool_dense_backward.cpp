// dS = [X | M | M' | S] [dx^T ; dadj^T ; dadj ; dgram + dgram^T] and the terms of the smaller sums, then the
// backward of softmax, one tile of rows at a time: neither dS nor anything of size N x N is kept.
#include <cmath>

#include "cpu/dense_batch.h"

namespace hierpool::cpu {
namespace {

constexpr int64_t kColumnTile = 512;  // columns of A per task of M' = A^T S
constexpr int64_t kBlockStride = kColumnTile + 16;
constexpr int64_t kAdjTile = 64;  // rows of dA per pass

template <typename T>
class Backward : DenseProblem<T> {
  using Base = DenseProblem<T>;
  using Base::batch_;
  using Base::graphs_;
  using Base::rows_;
  using Base::runtime_;

 public:
  Backward(const SoftPoolDenseBackward& args, const Runtime& runtime)
      : Base(args.batch, runtime), args_(args) {
    const int64_t B = batch_.B, R = batch_.R, N = batch_.N, K = batch_.K, F = batch_.F;
    link_ = Buffer<T>(B * R);
    for (int64_t b = 0; b < B; ++b) {
      for (int64_t r = 0; r < R; ++r) link_.data()[edge(b, r)] = link_gradient(b, r);
    }
    for (int64_t b = 0; b < B; ++b) {
      const Graph& g = graphs_.graph(b);
      this->place(p_, g, args.s, batch_.s_type, b * N * K, K, K);
      this->place(x_, g, batch_.x, batch_.x_type, b * batch_.x_stride_b, batch_.x_stride_n, F);
      for (int64_t r = 0; r < R; ++r) {
        this->place(m_, g, args.m, dtype_of<T>(), edge(b, r) * N * K, K, K);
        mt_.add_copy(needs_transpose(b, r) ? g.n : 0, K);
      }
      pt_.add_copy(args.dadjacency ? K : 0, g.n);
    }
    for (auto* views : {&p_, &x_, &m_, &mt_, &pt_}) views->allocate();
    weights_ = Buffer<T>(B * weights_size());
    scratch_size_ =
        3 * (N + 32) + std::max(graphs_.largest_tile() * std::max(K, F) + kAdjTile * (graphs_.largest() + K),
                                kRowTile * kBlockStride);
    scratch_ = Buffer<T>(scratch_size_ * std::max<int64_t>(runtime.threads, 1));
    index_ = Buffer<int32_t>((N + 32) * std::max<int64_t>(runtime.threads, 1));
  }

  void run() {
    std::vector<int64_t> whole, cut;
    for (int64_t b : graphs_.by_size()) (graphs_.graph(b).tiles == 1 ? whole : cut).push_back(b);
    for (int64_t b : cut) run_cut(b);
    run_tasks(runtime_, static_cast<int64_t>(whole.size()), [&](int64_t i, int64_t thread) {
      const int64_t b = whole[static_cast<size_t>(i)];
      prepare(b);
      load(b, 0);
      for (int64_t column = 0; column < transposed_columns(b); ++column)
        multiply_transposed(b, column, thread);
      differentiate(b, 0, thread);
    });
  }

 private:
  int64_t edge(int64_t b, int64_t r) const { return b * batch_.R + r; }
  T* scratch(int64_t thread) const { return scratch_.data() + thread * scratch_size_; }

  template <typename Out = T>
  static const Out* part(const void* base, int64_t offset) {
    return base ? static_cast<const Out*>(base) + offset : nullptr;
  }
  T scalar_gradient(int64_t b, int64_t column) const {
    return args_.dscalars ? *part(args_.dscalars, b * (2 + 4 * batch_.R) + column) : T(0);
  }
  T cut_gradient(int64_t b, int64_t r) const { return scalar_gradient(b, 2 + r); }
  T adj_sq_gradient(int64_t b, int64_t r) const { return scalar_gradient(b, 2 + batch_.R + r); }
  T total_gradient(int64_t b, int64_t r) const { return scalar_gradient(b, 2 + 2 * batch_.R + r); }
  T entropy_gradient(int64_t b) const {
    const T own = scalar_gradient(b, 1);
    if (args_.dtotal_entropy == nullptr) return own;
    return own + *part(args_.dtotal_entropy, 0) / static_cast<T>(counts_.entropy);
  }
  // Of link_sq: its own, and through the norm over the batch, whose gradient at 0 is 0.
  T link_gradient(int64_t b, int64_t r) const {
    const double norm = *part(args_.link_norm, r) * counts_.link;
    if (std::isnan(norm)) return 0;  // was not computed, or has no gradient to speak of
    const T own = scalar_gradient(b, 2 + 3 * batch_.R + r);
    if (args_.dlink_norm == nullptr || !(norm > 0)) return own;
    return own + static_cast<T>(*part(args_.dlink_norm, r) / (2 * norm * counts_.link));
  }
  T link(int64_t b, int64_t r) const { return link_.data()[edge(b, r)]; }

  bool uses_product(int64_t b, int64_t r) const { return args_.dadj || link(b, r) != 0; }
  bool needs_transpose(int64_t b, int64_t r) const {
    return args_.dlogits && uses_product(b, r) && !args_.is_symmetric[edge(b, r)];
  }

  // The right-hand sides of a graph, one below the other: dx and its transpose for X, then for each edge type that
  // of M, that of M' and the core of dA, then that of S.
  struct Weights {
    T *dx, *x, *edges, *s;
  };
  int64_t weights_size() const { return 2 * batch_.F * batch_.K + (3 * batch_.R + 1) * batch_.K * batch_.K; }
  Weights weights(int64_t b) const {
    const int64_t FK = batch_.F * batch_.K, KK = batch_.K * batch_.K;
    T* base = weights_.data() + b * weights_size();
    return {base, base + FK, base + 2 * FK, base + 2 * FK + 3 * batch_.R * KK};
  }
  T* of_m(int64_t b, int64_t r) const { return weights(b).edges + 3 * r * batch_.K * batch_.K; }
  T* of_mt(int64_t b, int64_t r) const { return of_m(b, r) + batch_.K * batch_.K; }
  T* of_adj(int64_t b, int64_t r) const { return of_m(b, r) + 2 * batch_.K * batch_.K; }

  void prepare(int64_t b);
  void run_cut(int64_t b);
  void load(int64_t b, int64_t tile);
  int64_t transposed_columns(int64_t b) const;
  void multiply_transposed(int64_t b, int64_t task, int64_t thread);
  void differentiate(int64_t b, int64_t tile, int64_t thread);
  void add_small_terms(int64_t b, int64_t i, T* ds, T* buffer) const;
  void logits_tile(int64_t b, int64_t begin, int64_t end, T* ds) const;
  void features_tile(int64_t b, int64_t begin, int64_t end, T* buffer) const;
  void adjacency_tile(int64_t b, int64_t r, int64_t begin, int64_t end, T* buffer) const;
  void clear_padding(int64_t b) const;

  const SoftPoolDenseBackward& args_;
  const MeanCounts counts_{batch_};
  RowsViews<T> p_, x_, m_, mt_, pt_;  // S, X, M, M' by rows, and S by columns
  Buffer<T> weights_, scratch_, link_;
  Buffer<int32_t> index_;
  int64_t scratch_size_ = 0;
};

template <typename T>
void transpose(T* dst, const T* src, int64_t rows, int64_t columns, int64_t src_ld) {
  constexpr int64_t kBlock = 16;
  for (int64_t i0 = 0; i0 < rows; i0 += kBlock) {
    for (int64_t j = 0; j < columns; ++j) {
      for (int64_t i = i0; i < std::min(i0 + kBlock, rows); ++i) dst[j * rows + i] = src[i * src_ld + j];
    }
  }
}

template <typename T>
void Backward<T>::prepare(int64_t b) {
  const int64_t K = batch_.K, F = batch_.F, KK = K * K;
  const Weights w = weights(b);
  if (args_.dx) {
    rows_.load(w.dx, at(args_.dx, batch_.x_type, b * K * F), batch_.x_type, K * F);
    transpose(w.x, w.dx, K, F, F);
  }
  std::fill_n(w.s, KK, T(0));
  for (int64_t r = 0; r < batch_.R; ++r) {
    if (!uses_product(b, r)) continue;
    T *core = of_adj(b, r), *of_transposed = of_m(b, r), *plain = of_mt(b, r);
    if (args_.dadj) {
      std::copy_n(part(args_.dadj, edge(b, r) * KK), KK, core);
    } else {
      std::fill_n(core, KK, T(0));
    }
    for (int64_t k = 0; k < K; ++k) core[k * K + k] -= 2 * link(b, r);
    transpose(of_transposed, core, K, K, K);
    if (args_.is_symmetric[edge(b, r)]) {  // M' is M: one product for both
      rows_.axpy(of_transposed, T(1), core, KK);
    } else {
      std::copy_n(core, KK, plain);
    }
    if (args_.gram) rows_.axpy(w.s, 4 * link(b, r), part(args_.gram, b * KK), KK);
  }
  if (args_.dgram) {
    const T* dgram = part(args_.dgram, b * KK);
    rows_.axpy(w.s, T(1), dgram, KK);
    for (int64_t k = 0; k < K; ++k) {
      for (int64_t l = 0; l < K; ++l) w.s[k * K + l] += dgram[l * K + k];
    }
  }
}

template <typename T>
void Backward<T>::run_cut(int64_t b) {
  const Graph& g = graphs_.graph(b);
  prepare(b);
  run_tasks(runtime_, g.tiles, [&](int64_t tile, int64_t) { load(b, tile); });
  run_tasks(runtime_, transposed_columns(b),
            [&](int64_t column, int64_t thread) { multiply_transposed(b, column, thread); });
  run_tasks(runtime_, g.tiles, [&](int64_t tile, int64_t thread) { differentiate(b, tile, thread); });
}

// Rows of S, X and M where the kernels need a copy, and S by columns for dA.
template <typename T>
void Backward<T>::load(int64_t b, int64_t tile) {
  const Graph& g = graphs_.graph(b);
  const int64_t begin = g.tile_begin(tile), end = g.tile_end(tile), N = batch_.N, K = batch_.K;
  if (p_[b].copied) {
    this->load_rows(p_[b].row(begin), at(args_.s, batch_.s_type, b * N * K), batch_.s_type, K, g, begin, end,
                    K);
  }
  if (x_[b].copied && args_.dx && args_.dlogits) {
    this->load_rows(x_[b].row(begin), at(batch_.x, batch_.x_type, b * batch_.x_stride_b), batch_.x_type,
                    batch_.x_stride_n, g, begin, end, batch_.F);
  }
  for (int64_t r = 0; r < batch_.R; ++r) {
    const RowsView<T>& m = m_[edge(b, r)];
    if (!m.copied) continue;
    this->load_rows(m.row(begin), at(args_.m, dtype_of<T>(), edge(b, r) * N * K), dtype_of<T>(), K, g, begin,
                    end, K);
  }
  if (args_.dadjacency) {
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t k = 0; k < K; ++k) pt_[b].data[k * g.n + i] = p_[b].row(i)[k];
    }
  }
}

template <typename T>
int64_t Backward<T>::transposed_columns(int64_t b) const {
  bool any = false;
  for (int64_t r = 0; r < batch_.R; ++r) any = any || needs_transpose(b, r);
  return any ? batch_.R * ceil_div(graphs_.graph(b).n, kColumnTile) : 0;
}

// Rows of M' = A^T S that belong to one tile of columns of A, which is copied together block by block: rows of A
// a power of two apart share few cache lines.
template <typename T>
void Backward<T>::multiply_transposed(int64_t b, int64_t task, int64_t thread) {
  const int64_t r = task % batch_.R;
  if (!needs_transpose(b, r)) return;
  const Graph& g = graphs_.graph(b);
  const int64_t K = batch_.K, begin = task / batch_.R * kColumnTile, end = std::min(g.n, begin + kColumnTile);
  const RowsView<T>&s = p_[b], &mt = mt_[edge(b, r)];
  std::fill_n(mt.row(begin), (end - begin) * K, T(0));
  T* buffer = scratch(thread);
  T* value = buffer + 2 * (batch_.N + 32);
  T* block = value + batch_.N + 32;
  int32_t* index = index_.data() + thread * (batch_.N + 32);
  for (int64_t first = 0; first < g.n; first += kRowTile) {
    const int64_t count = std::min(kRowTile, g.n - first);
    int64_t nonzeros = 0;
    for (int64_t i = 0; i < count; ++i) {
      const T* row = this->adj_row(b, r, first + i, buffer, begin, end);
      std::copy_n(row, end - begin, block + i * kBlockStride);
      nonzeros += rows_.stats(row, end - begin).nonzeros;
    }
    if (this->gathers(nonzeros, count * (end - begin))) {
      for (int64_t i = 0; i < count; ++i) {
        const int64_t entries = rows_.nonzeros(block + i * kBlockStride, end - begin, index, value);
        for (int64_t e = 0; e < entries; ++e)
          rows_.axpy(mt.row(begin + index[e]), value[e], s.row(first + i), K);
      }
    } else {
      this->product_of_transposed(end - begin, K, count, block, kBlockStride, s.row(first), s.ld,
                                  mt.row(begin), K, true);
    }
  }
}

// All gradients of the rows of one tile.
template <typename T>
void Backward<T>::differentiate(int64_t b, int64_t tile, int64_t thread) {
  const Graph& g = graphs_.graph(b);
  const int64_t begin = g.tile_begin(tile), end = g.tile_end(tile);
  T* buffer = scratch(thread);
  if (args_.dlogits) logits_tile(b, begin, end, buffer);
  if (args_.dfeatures) features_tile(b, begin, end, buffer);
  if (args_.dadjacency) {
    for (int64_t r = 0; r < batch_.R; ++r) {
      for (int64_t i = begin; i < end; i += kAdjTile)
        adjacency_tile(b, r, i, std::min(i + kAdjTile, end), buffer);
    }
  }
  if (tile == 0) clear_padding(b);
}

template <typename T>
void Backward<T>::logits_tile(int64_t b, int64_t begin, int64_t end, T* ds) const {
  const Graph& g = graphs_.graph(b);
  const int64_t K = batch_.K, count = end - begin;
  const Weights w = weights(b);
  bool accumulate = false;
  const auto add = [&](const RowsView<T>& rows, int64_t inner, const T* weight) {
    this->product(count, K, inner, rows.row(begin), rows.ld, weight, K, ds, K, accumulate);
    accumulate = true;
  };
  bool any_link = args_.dgram != nullptr;
  if (args_.dx) add(x_[b], batch_.F, w.x);
  for (int64_t r = 0; r < batch_.R; ++r) {
    any_link = any_link || link(b, r) != 0;
    if (!uses_product(b, r)) continue;
    add(m_[edge(b, r)], K, of_m(b, r));
    if (!args_.is_symmetric[edge(b, r)]) add(mt_[edge(b, r)], K, of_mt(b, r));
  }
  if (any_link) add(p_[b], K, w.s);
  if (!accumulate) std::fill_n(ds, count * K, T(0));
  const T scale = static_cast<T>(batch_.inverse_temperature);
  for (int64_t i = begin; i < end; ++i) {
    T* row = ds + (i - begin) * K;
    add_small_terms(b, i, row, ds + graphs_.largest_tile() * K);
    void* out = at(args_.dlogits, batch_.s_type, (b * batch_.N + g.row(i)) * K);
    T* target = batch_.s_type == dtype_of<T>() ? static_cast<T*>(out) : row;
    if (!batch_.given) {
      rows_.softmax_backward(target, p_[b].row(i), row, K, scale);
    } else if (target != row) {
      std::copy_n(row, K, target);
    }
    if (target == row) rows_.store(out, batch_.s_type, row, K);
  }
}

// ds_out + dsize + d dvolume + 2 dcut (d * s) - dentropy (1 + log s)
template <typename T>
void Backward<T>::add_small_terms(int64_t b, int64_t i, T* ds, T* buffer) const {
  const int64_t K = batch_.K, R = batch_.R, n = graphs_.graph(b).n, node = graphs_.graph(b).row(i);
  const T* s = p_[b].row(i);
  if (args_.ds) {
    rows_.load(buffer, at(args_.ds, batch_.s_type, (b * batch_.N + node) * K), batch_.s_type, K);
    rows_.axpy(ds, T(1), buffer, K);
  }
  if (args_.dvectors) rows_.axpy(ds, T(1), part(args_.dvectors, b * (1 + R) * K), K);
  for (int64_t r = 0; r < R; ++r) {
    const T cut = cut_gradient(b, r);
    if (args_.dvectors == nullptr && cut == 0) continue;
    // Degrees are not kept from the forward: few losses need them here.
    const T degree = rows_.stats(this->adj_row(b, r, i, buffer, 0, n), n).sum;
    if (args_.dvectors) rows_.axpy(ds, degree, part(args_.dvectors, (b * (1 + R) + 1 + r) * K), K);
    if (cut != 0) rows_.axpy(ds, 2 * cut * degree, s, K);
  }
  if (const T entropy = entropy_gradient(b); entropy != 0) rows_.entropy_backward(ds, s, K, entropy);
}

// dX = S dx
template <typename T>
void Backward<T>::features_tile(int64_t b, int64_t begin, int64_t end, T* buffer) const {
  const Graph& g = graphs_.graph(b);
  const int64_t F = batch_.F, N = batch_.N, count = end - begin;
  const auto out = [&](int64_t i) { return at(args_.dfeatures, batch_.x_type, (b * N + g.row(i)) * F); };
  if (args_.dx == nullptr) {
    for (int64_t i = begin; i < end; ++i)
      std::memset(out(i), 0, static_cast<size_t>(F * element_bytes(batch_.x_type)));
    return;
  }
  const bool in_place = g.rows == nullptr && batch_.x_type == dtype_of<T>();
  T* target = in_place && count ? reinterpret_cast<T*>(out(begin)) : buffer;
  this->product(count, F, batch_.K, p_[b].row(begin), p_[b].ld, weights(b).dx, F, target, F, false);
  if (in_place) return;
  for (int64_t i = begin; i < end; ++i) rows_.store(out(i), batch_.x_type, buffer + (i - begin) * F, F);
}

// dA_ij = s_i^T (dadj - 2 dlink I) s_j + (s_i . dvolume + dcut |s_i|^2 + dtotal) + 2 (dadj_sq + dlink) A_ij
template <typename T>
void Backward<T>::adjacency_tile(int64_t b, int64_t r, int64_t begin, int64_t end, T* buffer) const {
  const Graph& g = graphs_.graph(b);
  const int64_t K = batch_.K, N = batch_.N, n = g.n, count = end - begin;
  T* left = buffer;                                 // [count, K]
  T* da = left + kAdjTile * K;                      // [count, n]
  T* a_buffer = da + kAdjTile * graphs_.largest();  // [2 N]
  if (uses_product(b, r)) {
    this->product(count, K, K, p_[b].row(begin), p_[b].ld, of_adj(b, r), K, left, K, false);
    this->product(count, n, K, left, K, pt_[b].data, n, da, n, false);
  } else {
    std::fill_n(da, count * n, T(0));
  }
  const T square = 2 * (adj_sq_gradient(b, r) + link(b, r));
  for (int64_t i = begin; i < end; ++i) {
    const T* s = p_[b].row(i);
    T constant = total_gradient(b, r) + cut_gradient(b, r) * rows_.dot(s, s, K);
    if (args_.dvectors) {
      constant += rows_.dot(s, part(args_.dvectors, (b * (1 + batch_.R) + 1 + r) * K), K);
    }
    T* row = da + (i - begin) * n;
    if (square != 0) rows_.axpy(row, square, this->adj_row(b, r, i, a_buffer, 0, n), n);
    for (int64_t j = 0; j < n; ++j) row[j] += constant;
    void* out = at(args_.dadjacency, batch_.adj_type, (edge(b, r) * N + g.row(i)) * N);
    if (g.rows) {
      T* padded = a_buffer;
      std::fill_n(padded, N, T(0));
      for (int64_t j = 0; j < n; ++j) padded[g.rows[j]] = row[j];
      rows_.store(out, batch_.adj_type, padded, N);
    } else {
      rows_.store(out, batch_.adj_type, row, n);
      std::memset(at(out, batch_.adj_type, n), 0,
                  static_cast<size_t>((N - n) * element_bytes(batch_.adj_type)));
    }
  }
}

template <typename T>
void Backward<T>::clear_padding(int64_t b) const {
  const auto clear = [&](void* base, DType type, int64_t rows_before, int64_t width) {
    if (base == nullptr) return;
    const int64_t bytes = width * element_bytes(type);
    this->for_padding(graphs_.graph(b), [&](int64_t first, int64_t last) {
      std::memset(at(base, type, (rows_before + first) * width), 0,
                  static_cast<size_t>((last - first) * bytes));
    });
  };
  clear(args_.dlogits, batch_.s_type, b * batch_.N, batch_.K);
  clear(args_.dfeatures, batch_.x_type, b * batch_.N, batch_.F);
  for (int64_t r = 0; r < batch_.R; ++r)
    clear(args_.dadjacency, batch_.adj_type, edge(b, r) * batch_.N, batch_.N);
}

}  // namespace

void soft_pool_dense_backward(const SoftPoolDenseBackward& args, const Runtime& runtime) {
  if (args.batch.wide) {
    Backward<double>(args, runtime).run();
  } else {
    Backward<float>(args, runtime).run();
  }
}

}  // namespace hierpool::cpu
