// |A - S S^T|^2 and its gradient from the matrix A - S S^T itself, one tile at a time, for the graphs where the sums
// that usually give them cancel, or leave the range of T.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/pool_context.h"

namespace hierpool::cpu {

constexpr int64_t kResidualRows = 64, kResidualColumns = 256;

// Rows [i0, i1) and columns [j0, j1) of the A of one graph.
struct Tile {
  int64_t i0, i1, j0, j1;
};

// Edges reads A:
//   subtract(b, r, tile, out, ld, buffer)               out -= A on the tile; `buffer` has 2 N elements
//   subtract_transposed(b, r, tile, out, ld, buffer)    out -= A^T on the tile
template <typename T, typename Edges>
class Residual {
 public:
  // Of the edge type r of graph b, with the rows `s` of S.
  Residual(const PoolContext<T>& context, const Edges& edges, const RowsView<T>& s, int64_t b, int64_t r)
      : context_(context),
        edges_(edges),
        s_(s),
        b_(b),
        r_(r),
        n_(context.graphs.graph(b).n),
        K_(context.graphs.graph(b).k),
        columns_(K_ * kResidualColumns),
        tile_(kResidualRows * kResidualColumns),
        buffer_(2 * context.batch.N) {}

  // The sum of squares of rows [i0, i1), at most kResidualRows.
  double square(int64_t i0, int64_t i1) const {
    double sum = 0;
    for_tiles(i0, i1, [&](const Tile& tile) {
      edges_.subtract(b_, r_, tile, tile_.data(), width(tile), buffer_.data());
      const int64_t count = (i1 - i0) * width(tile);
      for (int64_t e = 0; e < count; ++e) {
        sum += static_cast<double>(tile_.data()[e]) * static_cast<double>(tile_.data()[e]);
      }
    });
    return sum;
  }

  // ds[i1 - i0, K] += weight (D + D^T) S on these rows, D = S S^T - A
  void add_gradient(int64_t i0, int64_t i1, double weight, bool symmetric, T* ds) const {
    for_tiles(i0, i1, [&](const Tile& tile) {
      const int64_t count = (i1 - i0) * width(tile);
      T* excess = tile_.data();
      if (!symmetric) {
        for (int64_t e = 0; e < count; ++e) excess[e] *= 2;
        edges_.subtract_transposed(b_, r_, tile, excess, width(tile), buffer_.data());
      }
      edges_.subtract(b_, r_, tile, excess, width(tile), buffer_.data());
      const double factor = symmetric ? 2 * weight : weight;
      for (int64_t e = 0; e < count; ++e) excess[e] = static_cast<T>(factor * static_cast<double>(excess[e]));
      context_.product(i1 - i0, K_, width(tile), excess, width(tile), s_.row(tile.j0), s_.ld, ds, K_, true,
                       {context_.of_computed(), context_.of_s()});
    });
  }

 private:
  static int64_t width(const Tile& tile) { return tile.j1 - tile.j0; }

  // Calls use(tile) with S S^T on each tile of the rows in tile_.
  template <typename Use>
  void for_tiles(int64_t i0, int64_t i1, const Use& use) const {
    for (int64_t j = 0; j < n_; j += kResidualColumns) {
      const Tile tile{i0, i1, j, std::min(j + kResidualColumns, n_)};
      context_.kernels.transpose(columns_.data(), s_.row(j), s_.ld, width(tile), K_);
      context_.product(i1 - i0, width(tile), K_, s_.row(i0), s_.ld, columns_.data(), width(tile),
                       tile_.data(), width(tile), false, {context_.of_s(), context_.of_s()});
      use(tile);
    }
  }

  const PoolContext<T>& context_;
  const Edges& edges_;
  const RowsView<T>& s_;
  const int64_t b_, r_, n_, K_;
  const Buffer<T> columns_, tile_, buffer_;  // S^T on the columns of a tile, the tile, a row of A
};

}  // namespace hierpool::cpu
