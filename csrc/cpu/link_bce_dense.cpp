// The binary cross-entropy link loss of dense adjacency.
#include "cpu/dense_adjacency.h"
#include "cpu/link_bce.h"

namespace hierpool::cpu {
namespace {

template <typename T>
class DenseLinkEntries : DenseAdjacencyRows<T> {
  using Base = DenseAdjacencyRows<T>;
  static constexpr int64_t kTurned = 16;  // rows of A that are transposed at once

 public:
  using typename Base::Adjacency;

  DenseLinkEntries(const DenseAdjacency& adjacency, const PoolContext<T>& context, bool symmetric,
                   void* gradient)
      : Base(adjacency, context),
        symmetric_(symmetric),
        gradient_(adjacency, context, gradient),
        buffers_(2 * context.batch.N + 32 + kTurned * kLinkRows, context.runtime) {}

  LinkWeights<T> weights(const LinkTile& t, T* w, int64_t thread) const {
    if (symmetric_ && this->in_place(this->graph(t.b))) {
      return {this->row(t.b, 0, t.i0, nullptr, t.j0, t.j1), this->adjacency_.stride_n};
    }
    T* buffer = buffers_.of(thread);
    for (int64_t i = t.i0; i < t.i1; ++i) {
      std::copy_n(this->row(t.b, 0, i, buffer, t.j0, t.j1), t.columns(), w + (i - t.i0) * kLinkBlock);
    }
    if (symmetric_) return {w, kLinkBlock};
    T* transposed = buffer + 2 * this->batch_.N + 32;  // [kTurned, kLinkRows]
    for (int64_t j0 = t.j0; j0 < t.j1; j0 += kTurned) {
      const int64_t count = std::min(kTurned, t.j1 - j0);
      for (int64_t j = 0; j < count; ++j)
        std::copy_n(this->row(t.b, 0, j0 + j, buffer, t.i0, t.i1), t.rows(), transposed + j * kLinkRows);
      for (int64_t i = 0; i < t.rows(); ++i) {
        T* row = w + i * kLinkBlock + (j0 - t.j0);
        for (int64_t j = 0; j < count; ++j) row[j] = T(0.5) * (row[j] + transposed[j * kLinkRows + i]);
      }
    }
    return {w, kLinkBlock};
  }

  bool wants_tiles() const { return gradient_.wanted(); }

  // dA_ij = dA_ji
  void tile_gradient(const LinkTile& t, const T* odds, int64_t thread) const {
    T* buffer = buffers_.of(thread);
    for (int64_t i = 0; i < t.rows(); ++i)
      gradient_.store(t.b, t.i0 + i, t.j0, odds + i * kLinkBlock, t.columns(), buffer);
    T* transposed = buffer + 2 * this->batch_.N + 32;
    for (int64_t j = t.square(); j < t.columns(); ++j) {
      for (int64_t i = 0; i < t.rows(); ++i) transposed[i] = odds[i * kLinkBlock + j];
      gradient_.store(t.b, t.j0 + j, t.i0, transposed, t.rows(), buffer);
    }
  }

  void row_gradients(int64_t, int64_t, int64_t, const RowsView<T>&, T, T) const {}

  void clear_padding(int64_t b) const { gradient_.clear_padding(b); }

 private:
  bool symmetric_;
  DenseAdjacencyGradient<T> gradient_;
  Scratch<T> buffers_;
};

}  // namespace

void link_bce_fwd(const LinkBce& args, const DenseAdjacency& adjacency, void* loss, const Runtime& runtime) {
  run_link_forward<DenseLinkEntries>(args, adjacency, loss, runtime);
}

void link_bce_bwd(const LinkBceBackward& args, const DenseAdjacency& adjacency, const Runtime& runtime) {
  run_link_backward<DenseLinkEntries>(args, adjacency, runtime);
}

}  // namespace hierpool::cpu
