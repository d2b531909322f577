// The binary cross-entropy link loss of dense adjacency.
#include "cpu/dense_rows.h"
#include "cpu/link_bce.h"

namespace hierpool::cpu {
namespace {

template <typename T>
class DenseLinkEntries : DenseRows<T> {
  using Base = DenseRows<T>;
  static constexpr int64_t kTurned = 16;  // rows of A that are turned at once

 public:
  using typename Base::Adjacency;

  DenseLinkEntries(const DenseAdjacency& adjacency, const PoolProblem<T>& problem, bool symmetric,
                   void* gradient)
      : Base(adjacency, problem),
        symmetric_(symmetric),
        gradient_(gradient),
        buffers_(2 * problem.batch.N + 32 + kTurned * kLinkRows, problem.runtime) {}

  LinkWeights<T> weights(const LinkTile& t, T* w, int64_t thread) const {
    if (symmetric_ && this->in_place(this->graph(t.b))) {
      return {this->row(t.b, 0, t.i0, nullptr, t.j0, t.j1), this->adjacency_.stride_n};
    }
    T* buffer = buffers_.of(thread);
    for (int64_t i = t.i0; i < t.i1; ++i) {
      std::copy_n(this->row(t.b, 0, i, buffer, t.j0, t.j1), t.columns(), w + (i - t.i0) * kLinkBlock);
    }
    if (symmetric_) return {w, kLinkBlock};
    T* turned = buffer + 2 * this->batch_.N + 32;  // [kTurned, kLinkRows]
    for (int64_t j0 = t.j0; j0 < t.j1; j0 += kTurned) {
      const int64_t count = std::min(kTurned, t.j1 - j0);
      for (int64_t j = 0; j < count; ++j)
        std::copy_n(this->row(t.b, 0, j0 + j, buffer, t.i0, t.i1), t.rows(), turned + j * kLinkRows);
      for (int64_t i = 0; i < t.rows(); ++i) {
        T* row = w + i * kLinkBlock + (j0 - t.j0);
        for (int64_t j = 0; j < count; ++j) row[j] = T(0.5) * (row[j] + turned[j * kLinkRows + i]);
      }
    }
    return {w, kLinkBlock};
  }

  bool wants_tiles() const { return gradient_ != nullptr; }

  // dA_ij = dA_ji
  void tile_gradient(const LinkTile& t, const T* odds, int64_t thread) const {
    T* buffer = buffers_.of(thread);
    for (int64_t i = 0; i < t.rows(); ++i)
      store(t.b, t.i0 + i, t.j0, odds + i * kLinkBlock, t.columns(), buffer);
    T* turned = buffer + 2 * this->batch_.N + 32;
    for (int64_t j = t.square(); j < t.columns(); ++j) {
      for (int64_t i = 0; i < t.rows(); ++i) turned[i] = odds[i * kLinkBlock + j];
      store(t.b, t.j0 + j, t.i0, turned, t.rows(), buffer);
    }
  }

  void row_gradients(int64_t, int64_t, int64_t, const RowsView<T>&, T, T) const {}

  void clear_padding(int64_t b) const {
    if (gradient_ == nullptr) return;
    const Graph& g = this->graph(b);
    const int64_t N = this->batch_.N, bytes = element_bytes(this->adjacency_.type);
    this->problem_.for_padding(g, [&](int64_t first, int64_t last) {
      std::memset(entry(b, first, 0), 0, static_cast<size_t>((last - first) * N * bytes));
      for (int64_t i = 0; i < g.n; ++i)
        std::memset(entry(b, g.row(i), first), 0, static_cast<size_t>((last - first) * bytes));
    });
  }

 private:
  char* entry(int64_t b, int64_t row, int64_t column) const {
    const int64_t N = this->batch_.N;
    return at(gradient_, this->adjacency_.type, (b * N + row) * N + column);
  }

  // The gradient of `count` entries of row i, from column j on; `buffer` holds 2 N elements.
  void store(int64_t b, int64_t i, int64_t j, const T* values, int64_t count, T* buffer) const {
    const Graph& g = this->graph(b);
    const DType type = this->adjacency_.type;
    if (g.rows == nullptr) {
      this->kernels_.store(entry(b, i, j), type, values, count);
      return;
    }
    this->kernels_.store(buffer, type, values, count);
    const int64_t bytes = element_bytes(type);
    const char* stored = reinterpret_cast<const char*>(buffer);
    for (int64_t c = 0; c < count; ++c)
      std::memcpy(entry(b, g.row(i), g.row(j + c)), stored + c * bytes, static_cast<size_t>(bytes));
  }

  bool symmetric_;
  void* gradient_;
  Scratch<T> buffers_;
};

}  // namespace

void link_bce_forward(const LinkBce& args, const DenseAdjacency& adjacency, void* loss,
                      const Runtime& runtime) {
  run_link_forward<DenseLinkEntries>(args, adjacency, loss, runtime);
}

void link_bce_backward(const LinkBceBackward& args, const DenseAdjacency& adjacency, const Runtime& runtime) {
  run_link_backward<DenseLinkEntries>(args, adjacency, runtime);
}

}  // namespace hierpool::cpu
