// dS = [X | M | M' | S] [dx^T ; dadj^T ; dadj ; dgram + dgram^T] and the terms of the smaller sums, then the
// backward of softmax, one tile of rows at a time, for any kind of adjacency: neither dS nor anything of size N x N is
// stored.
#pragma once

#include <cmath>
#include <cstring>

#include "cpu/pool_context.h"
#include "cpu/soft_pool_residual.h"
#include "cpu/soft_pool_scalars.h"

namespace hierpool::cpu {

// The gradient of A on some rows: s_i core s_j + 2 square A_ij + constant_i.
template <typename T>
struct AdjacencyGradient {
  const T* core;  // [K, K], or null for zero
  double square;
  const T* constant;  // of these rows
};

// Edges walks A and its transpose:
//   cut(adjacency, first_row, n)                           see Graphs
//   symmetric(b, r)
//   prepare(b, needs, s, runtime, thread)                  before anything of a graph: with all threads, or on one.
//                                                          needs(r): whether transposed_rows will be called
//   transposed_rows(b, r, begin, end, s, thread)           rows of M' = A^T S
//   degree(b, r, i, thread)
//   gradient(b, r, begin, end, gradient, s, thread)        of these rows of A
//   finish(b, s, runtime)                                  after all tiles of a cut graph, with all threads
//   clear_padding(b, r)                                    of the gradient
//   subtract(..), subtract_transposed(..)                  see Residual
template <typename T, typename Edges>
class Backward {
 public:
  Backward(const SoftPoolBackward& args, const typename Edges::Adjacency& adjacency, const Runtime& runtime)
      : args_(args),
        context_(args.batch, runtime,
                 [&](int64_t first, int64_t n) { return Edges::cut(adjacency, first, n); }),
        edges_(adjacency, context_, args),
        slot_(static_cast<size_t>(batch_.B)),
        weights_(weights_size(), runtime),
        link_(batch_.B * batch_.R),
        products_(static_cast<size_t>(std::max<int64_t>(runtime.threads, 1))),
        row_(std::max(batch_.K, kRowTile), runtime),
        tile_(graphs_.largest_tile() * std::max(batch_.K, batch_.F), runtime) {
    const int64_t B = batch_.B, R = batch_.R, K = batch_.K, F = batch_.F;
    for (auto* views : {&p_, &x_, &m_}) views->reserve(B * R);
    for (int64_t b = 0; b < B; ++b) {
      const Graph& g = graphs_.graph(b);
      context_.place(p_, g, args.s, batch_.s_type, g.first_row * K, K, g.k, true);
      context_.place(x_, g, batch_.x, batch_.x_type, x_offset(b), batch_.x_stride_n, F, true);
      for (int64_t r = 0; r < R; ++r) {
        link_.data()[edge(b, r)] = scalars_.link_gradient(b, r);
        context_.place(m_, g, args.m, dtype_of<T>(), context_.first_row(b, r) * K, K, g.k);
      }
    }
    for (auto* views : {&p_, &x_, &m_}) views->allocate(runtime);
  }

  void run() {
    const auto needs = [&](int64_t b) { return [this, b](int64_t r) { return needs_transpose(b, r); }; };
    const auto cut = [&](int64_t b) {
      const int64_t tiles = graphs_.graph(b).tiles;
      slot_[static_cast<size_t>(b)] = 0;
      prepare(b);
      run_tasks(context_.runtime, tiles, [&](int64_t tile, int64_t) { load(b, tile); });
      edges_.prepare(b, needs(b), p_[b], context_.runtime, 0);
      run_tasks(context_.runtime, tiles,
                [&](int64_t tile, int64_t thread) { differentiate(b, tile, thread); });
      edges_.finish(b, p_[b], context_.runtime);
    };
    Runtime alone = context_.runtime;
    alone.threads = 1;
    const auto whole = [&](int64_t b, int64_t thread) {
      slot_[static_cast<size_t>(b)] = thread;
      for (auto* views : {&p_, &x_}) views->lend(b, thread);
      prepare(b);
      load(b, 0);
      edges_.prepare(b, needs(b), p_[b], alone, thread);
      differentiate(b, 0, thread);
    };
    graphs_.for_each(context_.runtime, cut, whole);
  }

 private:
  int64_t edge(int64_t b, int64_t r) const { return b * batch_.R + r; }
  int64_t clusters(int64_t b) const { return graphs_.graph(b).k; }
  int64_t x_offset(int64_t b) const { return context_.offset(b, batch_.x_stride_b, batch_.x_stride_n); }

  static const T* part(const void* base, int64_t offset) {
    return base ? static_cast<const T*>(base) + offset : nullptr;
  }
  double link(int64_t b, int64_t r) const { return link_.data()[edge(b, r)]; }
  bool uses_residual(int64_t b, int64_t r) const { return scalars_.uses_residual(b, r, link(b, r)); }

  bool has_core(int64_t b, int64_t r) const { return args_.dadj || link(b, r) != 0; }
  bool uses_product(int64_t b, int64_t r) const {
    return args_.dadj || (link(b, r) != 0 && !uses_residual(b, r));
  }
  bool needs_transpose(int64_t b, int64_t r) const {
    return args_.dlogits && uses_product(b, r) && !edges_.symmetric(b, r);
  }

  // The right-hand sides of a graph, one below the other: the transpose of dx for X, then for each edge type that of M,
  // that of M' and the core of dA, then that of S; and dx, if it has to be converted.
  struct Weights {
    T *x, *edges, *s, *dx;
  };
  bool converts() const { return batch_.x_type != dtype_of<T>(); }
  int64_t weights_size() const {
    return (1 + converts()) * batch_.F * batch_.K + (3 * batch_.R + 1) * batch_.K * batch_.K;
  }
  Weights weights(int64_t b) const {
    const int64_t K = clusters(b), FK = batch_.F * K, KK = K * K;
    T* base = weights_.of(slot_[static_cast<size_t>(b)]);
    T* s = base + FK + 3 * batch_.R * KK;
    return {base, base + FK, s, s + KK};
  }
  const T* dx(int64_t b) const {
    return converts() ? weights(b).dx : part(args_.dx, b * batch_.K * batch_.F);
  }
  T* of_m(int64_t b, int64_t r) const { return weights(b).edges + 3 * r * clusters(b) * clusters(b); }
  T* of_mt(int64_t b, int64_t r) const { return of_m(b, r) + clusters(b) * clusters(b); }
  T* of_adj(int64_t b, int64_t r) const { return of_m(b, r) + 2 * clusters(b) * clusters(b); }

  void prepare(int64_t b);
  void load(int64_t b, int64_t tile);
  void differentiate(int64_t b, int64_t tile, int64_t thread);
  void logits_tile(int64_t b, int64_t begin, int64_t end, int64_t thread);
  void add_residual(int64_t b, int64_t r, int64_t begin, int64_t end, T* ds) const;
  void add_small_terms(int64_t b, int64_t begin, int64_t end, T* ds, int64_t thread);
  void store_logits(int64_t b, int64_t begin, int64_t end, T* ds);
  void features_tile(int64_t b, int64_t begin, int64_t end, T* buffer) const;
  void adjacency_tile(int64_t b, int64_t r, int64_t begin, int64_t end, int64_t thread);
  void clear_padding(int64_t b);

  const SoftPoolBackward& args_;
  PoolContext<T> context_;
  const PoolBatch& batch_ = context_.batch;
  const Graphs& graphs_ = context_.graphs;
  const RowKernels<T>& rows_ = context_.kernels;
  Edges edges_;
  const ScalarGradients<T> scalars_{args_};
  RowsViews<T> p_, x_, m_;  // S, X, M by rows
  std::vector<int64_t>
      slot_;  // where the weights of a graph are: those of a thread's last one stay in its caches
  Scratch<T> weights_;
  Buffer<double> link_;
  std::vector<std::vector<Factors<T>>> products_;  // that each thread sums
  Scratch<T> row_, tile_;
};

template <typename T, typename Edges>
void Backward<T, Edges>::prepare(int64_t b) {
  const int64_t K = clusters(b), ld = batch_.K, F = batch_.F;
  const Weights w = weights(b);
  const auto add = [&](T* to, T factor, const T* from) {
    if (K == ld) return rows_.axpy(to, factor, from, K * K);
    for (int64_t k = 0; k < K; ++k) rows_.axpy(to + k * K, factor, from + k * ld, K);
  };
  if (args_.dx) {
    if (converts()) rows_.load(w.dx, at(args_.dx, batch_.x_type, b * ld * F), batch_.x_type, K * F);
    if (args_.dlogits) rows_.transpose(w.x, dx(b), F, K, F);
  }
  if (args_.dgram) {
    const T* dgram = part(args_.dgram, b * ld * ld);
    rows_.transpose(w.s, dgram, ld, K, K);
    add(w.s, T(1), dgram);
  } else {
    std::fill_n(w.s, K * K, T(0));
  }
  for (int64_t r = 0; r < batch_.R; ++r) {
    if (!has_core(b, r)) continue;
    const T* dadj = args_.dadj ? part(args_.dadj, edge(b, r) * ld * ld) : nullptr;
    const T whole = static_cast<T>(link(b, r)), of_sums = uses_residual(b, r) ? T(0) : whole;
    const auto add_to_diagonal = [&](T* matrix, T term) {
      for (int64_t k = 0; k < K; ++k) matrix[k * K + k] += term;
    };
    if (args_.gram) add(w.s, 4 * of_sums, part(args_.gram, b * ld * ld));
    if (dadj) {
      rows_.transpose(of_m(b, r), dadj, ld, K, K);
    } else {
      std::fill_n(of_m(b, r), K * K, T(0));
    }
    add_to_diagonal(of_m(b, r), -2 * of_sums);
    if (edges_.symmetric(b, r)) {  // M' is M: one product for both
      if (dadj) add(of_m(b, r), T(1), dadj);
      add_to_diagonal(of_m(b, r), -2 * of_sums);
    } else {
      rows_.transpose(of_mt(b, r), of_m(b, r), K, K, K);
    }
    if (args_.dadjacency) {
      std::fill_n(of_adj(b, r), K * K, T(0));
      if (dadj) add(of_adj(b, r), T(1), dadj);
      add_to_diagonal(of_adj(b, r), -2 * whole);
    }
  }
}

// Rows of S, X and M where the kernels need a copy.
template <typename T, typename Edges>
void Backward<T, Edges>::load(int64_t b, int64_t tile) {
  const Graph& g = graphs_.graph(b);
  const int64_t begin = g.tile_begin(tile), end = g.tile_end(tile), K = batch_.K;
  const auto copy = [&](const RowsView<T>& view, const void* base, DType type, int64_t first, int64_t stride,
                        int64_t width) {
    if (!view.copied) return;
    context_.load_rows(view.row(begin), at(base, type, first), type, stride, g, begin, end, width);
  };
  copy(p_[b], args_.s, batch_.s_type, g.first_row * K, K, g.k);
  if (args_.dx && args_.dlogits) {
    copy(x_[b], batch_.x, batch_.x_type, x_offset(b), batch_.x_stride_n, batch_.F);
  }
  for (int64_t r = 0; r < batch_.R; ++r) {
    copy(m_[edge(b, r)], args_.m, dtype_of<T>(), context_.first_row(b, r) * K, K, g.k);
  }
}

// All gradients of the rows of one tile.
template <typename T, typename Edges>
void Backward<T, Edges>::differentiate(int64_t b, int64_t tile, int64_t thread) {
  const Graph& g = graphs_.graph(b);
  const int64_t begin = g.tile_begin(tile), end = g.tile_end(tile);
  if (args_.dlogits) logits_tile(b, begin, end, thread);
  if (args_.dfeatures) features_tile(b, begin, end, tile_.of(thread));
  if (args_.dadjacency) {
    for (int64_t r = 0; r < batch_.R; ++r) {
      for (int64_t i = begin; i < end; i += kRowTile)
        adjacency_tile(b, r, i, std::min(i + kRowTile, end), thread);
    }
  }
  if (tile == 0) clear_padding(b);
}

template <typename T, typename Edges>
void Backward<T, Edges>::logits_tile(int64_t b, int64_t begin, int64_t end, int64_t thread) {
  const int64_t K = clusters(b);
  const Weights w = weights(b);
  T* ds = tile_.of(thread);
  std::vector<Factors<T>>& products = products_[static_cast<size_t>(thread)];
  products.clear();
  const int of_x = context_.of_x(), of_s = context_.of_s(), of_computed = context_.of_computed();
  const auto add = [&](const T* rows, int64_t ld, int64_t inner, const T* weight, Terms terms) {
    products.push_back({rows, ld, 1, weight, K, inner, terms});
  };
  bool any_link = args_.dgram != nullptr;
  if (args_.dx) add(x_[b].row(begin), x_[b].ld, batch_.F, w.x, {of_x, of_x});
  for (int64_t r = 0; r < batch_.R; ++r) {
    any_link = any_link || link(b, r) != 0;
    if (!uses_product(b, r)) continue;
    add(m_[edge(b, r)].row(begin), m_[edge(b, r)].ld, K, of_m(b, r), {of_computed, of_computed});
    if (edges_.symmetric(b, r)) continue;
    const T* rows = edges_.transposed_rows(b, r, begin, end, p_[b], thread);
    add(rows, K, K, of_mt(b, r), {of_computed, of_computed});
  }
  if (any_link) add(p_[b].row(begin), p_[b].ld, K, w.s, {of_s, of_computed});
  context_.sum_of_products(end - begin, K, products, ds, K);
  for (int64_t r = 0; r < batch_.R; ++r) {
    if (uses_residual(b, r)) add_residual(b, r, begin, end, ds);
  }
  add_small_terms(b, begin, end, ds, thread);
  store_logits(b, begin, end, ds);
}

// The backward of softmax on rows of dS, which it may overwrite.
template <typename T, typename Edges>
void Backward<T, Edges>::store_logits(int64_t b, int64_t begin, int64_t end, T* ds) {
  const Graph& g = graphs_.graph(b);
  const int64_t K = g.k, ld = batch_.K, count = end - begin;
  const DType type = batch_.s_type;
  void* out = at(args_.dlogits, type, g.first_row * ld);
  const bool in_place = g.rows == nullptr && type == dtype_of<T>();
  T* target = in_place ? static_cast<T*>(out) + begin * ld : ds;
  const int64_t ld_target = in_place ? ld : K;
  const T entropy = scalars_.entropy_gradient(b);
  if (!batch_.given) {
    rows_.softmax_backward(target, ld_target, p_[b].row(begin), p_[b].ld, ds, K, K, count,
                           static_cast<T>(batch_.inverse_temperature), entropy);
  } else {
    for (int64_t i = 0; i < count; ++i) {
      if (entropy != 0) rows_.entropy_backward(ds + i * K, p_[b].row(begin + i), K, entropy);
      if (in_place) std::copy_n(ds + i * K, K, target + i * ld);
    }
  }
  if (!in_place) return context_.store_rows(out, ds, type, ld, g, begin, end, K);
  for (int64_t i = 0; i < count && K < ld; ++i) std::fill_n(target + i * ld + K, ld - K, T(0));
}

// dlink_sq (2 S S^T - A - A^T) S, twice
template <typename T, typename Edges>
void Backward<T, Edges>::add_residual(int64_t b, int64_t r, int64_t begin, int64_t end, T* ds) const {
  const Residual<T, Edges> residual(context_, edges_, p_[b], b, r);
  for (int64_t i = begin; i < end; i += kResidualRows) {
    residual.add_gradient(i, std::min(i + kResidualRows, end), 2 * link(b, r), edges_.symmetric(b, r),
                          ds + (i - begin) * clusters(b));
  }
}

// ds_out + dsize + d dvolume + 2 dcut (d * s)
template <typename T, typename Edges>
void Backward<T, Edges>::add_small_terms(int64_t b, int64_t begin, int64_t end, T* ds, int64_t thread) {
  const Graph& g = graphs_.graph(b);
  const int64_t K = g.k, ld = batch_.K, R = batch_.R;
  const auto upstream = [&](int64_t i) -> const T* {
    if (args_.ds == nullptr) return nullptr;
    const void* row = at(args_.ds, batch_.s_type, (g.first_row + g.row(i)) * ld);
    if (batch_.s_type == dtype_of<T>()) return static_cast<const T*>(row);
    rows_.load(row_.of(thread), row, batch_.s_type, K);
    return row_.of(thread);
  };
  for (int64_t r = 0; r < R; ++r) {
    const T cut = scalars_.cut_gradient(b, r);
    const T* size = r == 0 ? part(args_.dvectors, b * (1 + R) * ld) : nullptr;
    const T* volume = part(args_.dvectors, (b * (1 + R) + 1 + r) * ld);
    const bool weighs = volume != nullptr || cut != 0;
    if (!weighs && (r > 0 || args_.ds == nullptr)) continue;
    for (int64_t i = begin; i < end; ++i) {
      // Not every forward keeps the degrees: few losses need them here.
      T degree = 0;
      if (weighs && args_.degree) {
        degree = *part(args_.degree, context_.first_row(b, r) + i);
      } else if (weighs) {
        degree = edges_.degree(b, r, i, thread);
      }
      rows_.add_terms(ds + (i - begin) * K, r == 0 ? upstream(i) : nullptr, size, degree, volume,
                      2 * cut * degree, cut != 0 ? p_[b].row(i) : nullptr, K);
    }
  }
}

// dX = S dx
template <typename T, typename Edges>
void Backward<T, Edges>::features_tile(int64_t b, int64_t begin, int64_t end, T* buffer) const {
  const Graph& g = graphs_.graph(b);
  const int64_t F = batch_.F, count = end - begin;
  void* out = at(args_.dfeatures, batch_.x_type, g.first_row * F);
  const bool in_place = g.rows == nullptr && !converts();
  T* target = in_place ? static_cast<T*>(out) + begin * F : buffer;
  if (args_.dx) {
    context_.product(count, F, g.k, p_[b].row(begin), p_[b].ld, dx(b), F, target, F, false,
                     {context_.of_s(), context_.of_x()});
  } else {
    std::fill_n(target, count * F, T(0));
  }
  if (!in_place) context_.store_rows(out, buffer, batch_.x_type, F, g, begin, end, F);
}

// dA = S core S^T + 2 (dadj_sq + dlink_sq) A + 1 (dtotal + dcut |s|^2 + s . dvolume)^T by rows
template <typename T, typename Edges>
void Backward<T, Edges>::adjacency_tile(int64_t b, int64_t r, int64_t begin, int64_t end, int64_t thread) {
  const int64_t K = clusters(b);
  T* constant = row_.of(thread);
  for (int64_t i = begin; i < end; ++i) {
    const T* s = p_[b].row(i);
    T sum = scalars_.total_gradient(b, r) + scalars_.cut_gradient(b, r) * rows_.dot(s, s, K);
    if (args_.dvectors) sum += rows_.dot(s, part(args_.dvectors, (b * (1 + batch_.R) + 1 + r) * batch_.K), K);
    constant[i - begin] = sum;
  }
  const T* core = has_core(b, r) ? of_adj(b, r) : nullptr;
  const double square = scalars_.adj_sq_gradient(b, r) + link(b, r);
  edges_.gradient(b, r, begin, end, AdjacencyGradient<T>{core, square, constant}, p_[b], thread);
}

template <typename T, typename Edges>
void Backward<T, Edges>::clear_padding(int64_t b) {
  const Graph& g = graphs_.graph(b);
  const auto clear = [&](void* base, DType type, int64_t width) {
    if (base == nullptr) return;
    const int64_t bytes = width * element_bytes(type);
    context_.for_padding(g, [&](int64_t first, int64_t last) {
      std::memset(at(base, type, (g.first_row + first) * width), 0,
                  static_cast<size_t>((last - first) * bytes));
    });
  };
  clear(args_.dlogits, batch_.s_type, batch_.K);
  clear(args_.dfeatures, batch_.x_type, batch_.F);
  if (args_.dadjacency) {
    for (int64_t r = 0; r < batch_.R; ++r) edges_.clear_padding(b, r);
  }
}

}  // namespace hierpool::cpu
