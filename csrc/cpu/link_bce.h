// The binary cross-entropy link loss, one tile of p = S S^T at a time.
//
// p is symmetric, so that the terms of (i, j) and (j, i) are those of p_ij with the mean w of A_ij and A_ji, twice:
// half of the tiles suffice, of any A. Nodes are cut into blocks. In round r block i meets block (r - i) modulo their
// number: every two blocks meet once, and no block is in two pairs of one round, so that the pairs of a round add to
// dS side by side and in an order that no thread decides.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "cpu/accumulation.h"
#include "cpu/pool_context.h"
#include "hierpool/link_bce.h"

namespace hierpool::cpu {

constexpr int64_t kLinkBlock = 144;  // nodes of a block: S of two blocks and a tile fit in the second cache
constexpr int64_t kLinkRows = 24;    // rows of a tile

// Rows [i0, i1) and columns [j0, j1) of a graph. A tile on the diagonal begins with a square of both triangles.
struct LinkTile {
  int64_t b, i0, i1, j0, j1;
  bool diagonal;
  int64_t rows() const { return i1 - i0; }
  int64_t columns() const { return j1 - j0; }
  int64_t square() const { return diagonal ? rows() : 0; }  // columns that are not to be counted twice
};

// Rows of a tile.
template <typename T>
struct LinkWeights {
  const T* data;
  int64_t ld;
};

// What both directions share. Entries<T> knows A:
//   weights(tile, w, thread)             w = (A_ij + A_ji) / 2, written to `w` [kLinkRows, kLinkBlock] or elsewhere
//   tile_gradient(tile, odds, thread)    takes the derivatives with respect to the entries of a tile
//   row_gradients(b, begin, end, s, ..)  takes those of the entries of some rows, where tiles are no help
//   clear_padding(b)
template <typename T, template <typename> class Entries>
class LinkTiles {
 protected:
  using Adjacency = typename Entries<T>::Adjacency;
  struct Pair {
    int64_t b, i, j;  // blocks
  };

  LinkTiles(const LinkBce& args, const Adjacency& adjacency, void* dadjacency, const Runtime& runtime)
      : args_(args),
        context_(args.batch, runtime, [](int64_t, int64_t) { return std::vector<int64_t>(); }),
        entries_(adjacency, context_, args.symmetric, dadjacency),
        tiles_(3 * kLinkRows * kLinkBlock, runtime) {
    const PoolBatch& batch = context_.batch;
    int64_t nodes = 0;
    for (int64_t b = 0; b < batch.B; ++b) {
      const Graph& g = graph(b);
      first_node_.push_back(nodes);
      nodes += g.n;
      pairs_ += static_cast<double>(g.n) * static_cast<double>(g.n);
      rounds_ = std::max(rounds_, blocks(b));
      context_.place(s_, g, args.s, batch.s_type, context_.offset(b, args.s_stride_b, args.s_stride_n),
                     args.s_stride_n, batch.K);
      for (int64_t block = 0; block < blocks(b); ++block) all_blocks_.push_back({b, block, block});
    }
    s_.allocate();
    by_columns_ = Buffer<T>(nodes * batch.K);
  }

  const Graph& graph(int64_t b) const { return context_.graphs.graph(b); }
  int64_t blocks(int64_t b) const { return ceil_div(graph(b).n, kLinkBlock); }
  int64_t block_begin(int64_t block) const { return block * kLinkBlock; }
  int64_t block_end(int64_t b, int64_t block) const { return std::min(graph(b).n, (block + 1) * kLinkBlock); }
  const RowsView<T>& s(int64_t b) const { return s_[b]; }

  // S of a block by columns, [K, nodes of the block].
  T* by_columns(int64_t b, int64_t block) const {
    return by_columns_.data() + (first_node_[static_cast<size_t>(b)] + block_begin(block)) * args_.batch.K;
  }

  double divisor() const {
    const PoolBatch& batch = args_.batch;
    double divisor = 1;
    if (args_.divisor == LinkDivisor::valid) divisor = pairs_;
    if (args_.divisor == LinkDivisor::numel) {
      divisor = static_cast<double>(batch.B) * static_cast<double>(batch.N) * static_cast<double>(batch.N);
    }
    return divisor > 0 ? divisor : 1;  // of no pairs the sum is 0
  }

  // S of a block where the kernels need it.
  void load(int64_t b, int64_t block) const {
    const PoolBatch& batch = context_.batch;
    const int64_t begin = block_begin(block), count = block_end(b, block) - begin;
    if (s(b).copied) {
      const int64_t offset = context_.offset(b, args_.s_stride_b, args_.s_stride_n);
      context_.load_rows(s(b).row(begin), at(args_.s, batch.s_type, offset), batch.s_type, args_.s_stride_n,
                         graph(b), begin, begin + count, batch.K);
    }
    T* columns = by_columns(b, block);
    constexpr int64_t kStep = 16;
    for (int64_t i0 = 0; i0 < count; i0 += kStep) {
      for (int64_t k = 0; k < batch.K; ++k) {
        for (int64_t i = i0; i < std::min(i0 + kStep, count); ++i)
          columns[k * count + i] = s(b).row(begin + i)[k];
      }
    }
  }

  std::vector<Pair> round(int64_t r) const {
    std::vector<Pair> pairs;
    for (int64_t b = 0; b < args_.batch.B; ++b) {
      const int64_t count = blocks(b);
      for (int64_t i = 0; r < count && i < count; ++i) {
        const int64_t j = (r + count - i) % count;
        if (i <= j) pairs.push_back({b, i, j});
      }
    }
    return pairs;
  }

  // The buffers of a thread, [kLinkRows, kLinkBlock] each.
  T* p_of(int64_t thread) const { return tiles_.of(thread); }
  T* w_of(int64_t thread) const { return tiles_.of(thread) + kLinkRows * kLinkBlock; }
  T* odds_of(int64_t thread) const { return tiles_.of(thread) + 2 * kLinkRows * kLinkBlock; }

  // Calls visit(tile) for every tile of a pair, with p in p_of(thread).
  template <typename Visit>
  void for_tiles(const Pair& pair, int64_t thread, const Visit& visit) const {
    const int64_t K = args_.batch.K, first = block_begin(pair.j), end = block_end(pair.b, pair.j);
    for (int64_t i0 = block_begin(pair.i); i0 < block_end(pair.b, pair.i); i0 += kLinkRows) {
      const bool diagonal = pair.i == pair.j;
      const LinkTile tile{
          pair.b, i0,      std::min(i0 + kLinkRows, block_end(pair.b, pair.i)), diagonal ? i0 : first,
          end,    diagonal};
      context_.product(tile.rows(), tile.columns(), K, s(pair.b).row(i0), s(pair.b).ld,
                       by_columns(pair.b, pair.j) + (tile.j0 - first), end - first, p_of(thread), kLinkBlock,
                       false);
      visit(tile);
    }
  }

  const LinkBce& args_;
  PoolContext<T> context_;
  Entries<T> entries_;
  RowsViews<T> s_;
  Buffer<T> by_columns_;
  Scratch<T> tiles_;
  std::vector<int64_t> first_node_;
  std::vector<Pair> all_blocks_;
  double pairs_ = 0;
  int64_t rounds_ = 0;
};

template <typename T, template <typename> class Entries>
class LinkForward : LinkTiles<T, Entries> {
  using Base = LinkTiles<T, Entries>;
  using typename Base::Pair;

 public:
  LinkForward(const LinkBce& args, const typename Base::Adjacency& adjacency, const Runtime& runtime)
      : Base(args, adjacency, nullptr, runtime) {}

  double run() {
    const Runtime& runtime = this->context_.runtime;
    run_tasks(runtime, static_cast<int64_t>(this->all_blocks_.size()), [&](int64_t i, int64_t) {
      const Pair& block = this->all_blocks_[static_cast<size_t>(i)];
      this->load(block.b, block.i);
    });
    std::vector<Pair> pairs;
    for (int64_t r = 0; r < this->rounds_; ++r) {
      const std::vector<Pair> round = this->round(r);
      pairs.insert(pairs.end(), round.begin(), round.end());
    }
    std::vector<double> sums(pairs.size());
    run_tasks(runtime, static_cast<int64_t>(pairs.size()), [&](int64_t i, int64_t thread) {
      sums[static_cast<size_t>(i)] = sum(pairs[static_cast<size_t>(i)], thread);
    });
    double total = 0;
    for (double part : sums) total += part;
    return total / this->divisor();
  }

 private:
  double sum(const Pair& pair, int64_t thread) {
    const RowKernels<T>& kernels = this->context_.kernels;
    const T eps = static_cast<T>(this->args_.eps);
    double once = 0, twice = 0;
    this->for_tiles(pair, thread, [&](const LinkTile& tile) {
      const LinkWeights<T> weights = this->entries_.weights(tile, this->w_of(thread), thread);
      const int64_t square = tile.square();
      for (int64_t i = 0; i < tile.rows(); ++i) {
        const T *p = this->p_of(thread) + i * kLinkBlock, *w = weights.data + i * weights.ld;
        once += kernels.bce(p, w, square, eps);
        twice += kernels.bce(p + square, w + square, tile.columns() - square, eps);
      }
    });
    return once + 2 * twice;
  }
};

template <typename T, template <typename> class Entries>
class LinkBackward : LinkTiles<T, Entries> {
  using Base = LinkTiles<T, Entries>;
  using typename Base::Pair;

 public:
  LinkBackward(const LinkBceBackward& args, const typename Base::Adjacency& adjacency, const Runtime& runtime)
      : Base(args.forward, adjacency, args.dadjacency, runtime),
        ds_(args.ds),
        scale_(static_cast<T>(static_cast<double>(*static_cast<const T*>(args.dloss)) / this->divisor())) {
    if (ds_ == nullptr) return;
    const PoolBatch& batch = this->args_.batch;
    for (int64_t b = 0; b < batch.B; ++b) {
      this->context_.place(grads_, this->graph(b), ds_, batch.s_type, this->graph(b).first_row * batch.K,
                           batch.K, batch.K);
    }
    grads_.allocate();
  }

  void run() {
    const Runtime& runtime = this->context_.runtime;
    const auto for_blocks = [&](const auto& task) {
      run_tasks(runtime, static_cast<int64_t>(this->all_blocks_.size()), [&](int64_t i, int64_t thread) {
        const Pair& block = this->all_blocks_[static_cast<size_t>(i)];
        const int64_t begin = this->block_begin(block.i), end = this->block_end(block.b, block.i);
        task(block, begin, end, thread);
      });
    };
    for_blocks([&](const Pair& block, int64_t begin, int64_t end, int64_t) {
      this->load(block.b, block.i);
      if (ds_) std::fill_n(grads_[block.b].row(begin), (end - begin) * this->args_.batch.K, T(0));
    });
    for (int64_t r = 0; r < this->rounds_ && (ds_ || this->entries_.wants_tiles()); ++r) {
      const std::vector<Pair> pairs = this->round(r);
      run_tasks(runtime, static_cast<int64_t>(pairs.size()),
                [&](int64_t i, int64_t thread) { differentiate(pairs[static_cast<size_t>(i)], thread); });
    }
    for_blocks([&](const Pair& block, int64_t begin, int64_t end, int64_t) {
      if (ds_) store(block.b, begin, end);
      this->entries_.row_gradients(block.b, begin, end, this->s(block.b), static_cast<T>(this->args_.eps),
                                   scale_);
    });
    run_tasks(runtime, this->args_.batch.B, [&](int64_t b, int64_t) { clear_padding(b); });
  }

 private:
  // dS_i = sum_j H_ij s_j with H = dL/dp + (dL/dp)^T, and dA_ij, of all tiles of a pair.
  void differentiate(const Pair& pair, int64_t thread) {
    const PoolContext<T>& context = this->context_;
    const RowKernels<T>& kernels = context.kernels;
    const int64_t K = this->args_.batch.K;
    const T eps = static_cast<T>(this->args_.eps);
    T* p = this->p_of(thread);
    const RowsView<T>& s = this->s(pair.b);
    this->for_tiles(pair, thread, [&](const LinkTile& tile) {
      const int64_t rows = tile.rows(), columns = tile.columns(), square = tile.square();
      if (this->entries_.wants_tiles()) {
        T* odds = this->odds_of(thread);
        for (int64_t i = 0; i < rows; ++i)
          kernels.bce_log_odds(odds + i * kLinkBlock, p + i * kLinkBlock, columns, eps, scale_);
        this->entries_.tile_gradient(tile, odds, thread);
      }
      if (ds_ == nullptr) return;
      const LinkWeights<T> weights = this->entries_.weights(tile, this->w_of(thread), thread);
      for (int64_t i = 0; i < rows; ++i) {
        T* row = p + i * kLinkBlock;
        kernels.bce_gradient(row, row, weights.data + i * weights.ld, columns, eps, 2 * scale_);
      }
      const RowsView<T>& ds = grads_[pair.b];
      context.product(rows, K, columns, p, kLinkBlock, s.row(tile.j0), s.ld, ds.row(tile.i0), ds.ld, true);
      if (columns == square) return;
      context.product_of_transposed(columns - square, K, rows, p + square, kLinkBlock, s.row(tile.i0), s.ld,
                                    ds.row(tile.j0 + square), ds.ld, true);
    });
  }

  void* ds_row(int64_t b, int64_t node) const {
    const PoolBatch& batch = this->args_.batch;
    return at(ds_, batch.s_type, (this->graph(b).first_row + node) * batch.K);
  }

  void store(int64_t b, int64_t begin, int64_t end) const {
    if (!grads_[b].copied) return;
    const PoolBatch& batch = this->args_.batch;
    for (int64_t i = begin; i < end; ++i)
      this->context_.kernels.store(ds_row(b, this->graph(b).row(i)), batch.s_type, grads_[b].row(i), batch.K);
  }

  void clear_padding(int64_t b) const {
    this->entries_.clear_padding(b);
    if (ds_ == nullptr) return;
    const int64_t bytes = this->args_.batch.K * element_bytes(this->args_.batch.s_type);
    this->context_.for_padding(this->graph(b), [&](int64_t first, int64_t last) {
      std::memset(ds_row(b, first), 0, static_cast<size_t>((last - first) * bytes));
    });
  }

  void* ds_;
  T scale_;
  RowsViews<T> grads_;
};

template <template <typename> class Entries, typename Adjacency>
void run_link_forward(const LinkBce& args, const Adjacency& adjacency, void* loss, const Runtime& runtime) {
  with_accumulation_type(args.batch.is_double, [&]<typename T>(T) {
    *static_cast<T*>(loss) = static_cast<T>(LinkForward<T, Entries>(args, adjacency, runtime).run());
  });
}

template <template <typename> class Entries, typename Adjacency>
void run_link_backward(const LinkBceBackward& args, const Adjacency& adjacency, const Runtime& runtime) {
  with_accumulation_type(args.forward.batch.is_double,
                         [&]<typename T>(T) { LinkBackward<T, Entries>(args, adjacency, runtime).run(); });
}

}  // namespace hierpool::cpu
