// The binary cross-entropy link loss of sparse adjacency: all pairs count, few of them with an entry.
#include "cpu/csr_rows.h"
#include "cpu/link_bce.h"

namespace hierpool::cpu {
namespace {

template <typename T>
class CsrLinkEntries {
 public:
  using Adjacency = CsrAdjacency;

  CsrLinkEntries(const CsrAdjacency& adjacency, const PoolContext<T>& context, bool symmetric, void* gradient)
      : a_(adjacency.a, context.kernels),
        context_(context),
        symmetric_(symmetric),
        gradient_(static_cast<T*>(gradient)) {}

  LinkWeights<T> weights(const LinkTile& t, T* w, int64_t) const {
    const int64_t first = context_.graphs.graph(t.b).first_row;
    for (int64_t i = 0; i < t.rows(); ++i) std::fill_n(w + i * kLinkBlock, t.columns(), T(0));
    const T part = symmetric_ ? T(1) : T(0.5);
    for (int64_t i = t.i0; i < t.i1; ++i) {
      T* row = w + (i - t.i0) * kLinkBlock;
      for_entries(first + i, first + t.j0, first + t.j1,
                  [&](int64_t column, T value) { row[column - first - t.j0] += part * value; });
    }
    if (symmetric_) return {w, kLinkBlock};
    for (int64_t j = t.j0; j < t.j1; ++j) {
      T* column = w + (j - t.j0);
      for_entries(first + j, first + t.i0, first + t.i1,
                  [&](int64_t i, T value) { column[(i - first - t.i0) * kLinkBlock] += part * value; });
    }
    return {w, kLinkBlock};
  }

  bool wants_tiles() const { return false; }
  void tile_gradient(const LinkTile&, const T*, int64_t) const {}

  // Of the stored entries of rows [begin, end) alone.
  void row_gradients(int64_t b, int64_t begin, int64_t end, const RowsView<T>& s, T eps, T scale) const {
    if (gradient_ == nullptr) return;
    const int64_t first = context_.graphs.graph(b).first_row;
    a_.sampled(gradient_, context_.batch.K, s.row(begin), s.ld, s.data - first * s.ld, s.ld, first + begin,
               first + end);
    T* entries = gradient_ + a_.row_begin(first + begin);
    context_.kernels.bce_log_odds(entries, entries, a_.entries(first + begin, first + end), eps, scale);
  }

  void clear_padding(int64_t) const {}

 private:
  // The entries of a row with columns [begin, end).
  template <typename Visit>
  void for_entries(int64_t row, int64_t begin, int64_t end, const Visit& visit) const {
    const int64_t last = a_.row_begin(row + 1);
    int64_t e = a_.row_begin(row);
    for (int64_t count = last - e; count > 0;) {  // the first entry that is not before `begin`
      const int64_t half = count / 2;
      const bool before = a_.column(e + half) < begin;
      e += before ? half + 1 : 0;
      count = before ? count - half - 1 : half;
    }
    for (int64_t column; e < last && (column = a_.column(e)) < end; ++e)
      visit(column, a_.values() ? a_.values()[e] : T(1));
  }

  const CsrProduct<T> a_;
  const PoolContext<T>& context_;
  bool symmetric_;
  T* gradient_;  // [E]
};

}  // namespace

void link_bce_fwd(const LinkBce& args, const CsrAdjacency& adjacency, void* loss, const Runtime& runtime) {
  run_link_forward<CsrLinkEntries>(args, adjacency, loss, runtime);
}

void link_bce_bwd(const LinkBceBackward& args, const CsrAdjacency& adjacency, const Runtime& runtime) {
  run_link_backward<CsrLinkEntries>(args, adjacency, runtime);
}

}  // namespace hierpool::cpu
