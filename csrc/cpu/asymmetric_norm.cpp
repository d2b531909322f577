// The norm by blocks of columns. The entries of a column of a small graph are copied and partly sorted; those of a large
// one are counted by the digits of their keys, from the highest to the lowest, in S as it lies.
#include "hierpool/asymmetric_norm.h"

#include <cmath>
#include <vector>

#include "cpu/accumulation.h"
#include "cpu/float_keys.h"
#include "cpu/pool_context.h"

namespace hierpool::cpu {
namespace {

constexpr int64_t kColumns = 16;  // of a block: rows of 16 floats are a cache line
constexpr int64_t kSmall = 4096;  // rows of a graph that is one task for each block ...
constexpr int64_t kPiece = 4096;  // ... and of a piece of a larger one
constexpr int kDigitBits = 11;    // counts of a block of columns stay in the second cache
// Counts of a column, a cache line more than digits: those of one digit in several columns would share a cache set.
constexpr int64_t kCounts = (int64_t{1} << kDigitBits) + 16;
constexpr int64_t kGradientElements = 1 << 14;  // of a tile of the gradient

// Sums over some rows of a block of columns.
struct Sums {
  double norm[kColumns] = {}, slope[kColumns] = {};
  int64_t row[kColumns];
  Sums() { std::fill(row, row + kColumns, int64_t{-1}); }

  // Those of rows behind these.
  void add(const Sums& next) {
    for (int64_t k = 0; k < kColumns; ++k) {
      norm[k] += next.norm[k], slope[k] += next.slope[k];
      if (row[k] < 0) row[k] = next.row[k];
    }
  }
};

template <typename T>
class Rows {
 protected:
  Rows(const AsymmetricNorm& args, int64_t scratch, const Runtime& runtime)
      : args_(args),
        context_(args.batch, runtime, [](int64_t, int64_t) { return std::vector<int64_t>(); }),
        tiles_(scratch, runtime) {}

  const Graph& graph(int64_t b) const { return context_.graphs.graph(b); }
  T rho(int64_t b) const { return static_cast<T>(graph(b).k - 1); }

  // Columns [column, column + width) of rows [begin, end) of a graph: where they lie, or in `scratch`.
  RowsView<const T> rows(int64_t b, int64_t begin, int64_t end, int64_t column, int64_t width,
                         T* scratch) const {
    const Graph& g = graph(b);
    const DType type = args_.batch.s_type;
    const int64_t offset = context_.offset(b, args_.s_stride_b, args_.s_stride_n) + column;
    if (g.rows == nullptr && type == dtype_of<T>()) {
      const char* data = at(args_.s, type, offset + begin * args_.s_stride_n);
      return {reinterpret_cast<const T*>(data), args_.s_stride_n, false};
    }
    context_.load_rows(scratch, at(args_.s, type, offset), type, args_.s_stride_n, g, begin, end, width);
    return {scratch, width, true};
  }

  const AsymmetricNorm& args_;
  const PoolContext<T> context_;
  const Scratch<T> tiles_;
};

template <typename T>
class Forward : Rows<T> {
  using Base = Rows<T>;
  using Keys = FloatKeys<T>;
  using Key = typename Keys::Key;
  using Base::args_, Base::graph, Base::context_, Base::rho, Base::rows, Base::tiles_;

 public:
  Forward(const AsymmetricNormForward& args, const Runtime& runtime)
      : Base(args.input, kRowTile * kColumns, runtime), out_(args), norms_(args_.batch.B * args_.batch.K) {}

  void run() {
    const PoolBatch& batch = args_.batch;
    std::vector<int64_t> small;
    int64_t largest = 0;
    for (int64_t b = 0; b < batch.B; ++b) {
      clear_others(b);
      if (graph(b).n > kSmall) {
        for (int64_t column = 0; column < graph(b).k; column += kColumns) large(b, column);
      } else {
        small.push_back(b);
        largest = std::max(largest, graph(b).n);
      }
    }
    const Scratch<Key> keys(largest * std::min(kColumns, batch.K), context_.runtime);
    const int64_t blocks = ceil_div(batch.K, kColumns);
    run_tasks(
        context_.runtime, static_cast<int64_t>(small.size()) * blocks, [&](int64_t task, int64_t thread) {
          const int64_t b = small[static_cast<size_t>(task / blocks)], column = task % blocks * kColumns;
          if (column < graph(b).k) whole(b, column, keys.of(thread), thread);
        });
    for (int64_t b = 0; b < batch.B; ++b) {
      double norm = 0;
      for (int64_t k = 0; k < graph(b).k; ++k) norm += norms_.data()[b * batch.K + k];
      static_cast<T*>(out_.norm)[b] = static_cast<T>(norm);
    }
  }

 private:
  int64_t width(int64_t b, int64_t column) const { return std::min(kColumns, graph(b).k - column); }
  int64_t rank(int64_t b) const { return std::min(graph(b).n / graph(b).k, graph(b).n - 1); }

  // Columns that are no clusters of the graph.
  void clear_others(int64_t b) {
    const int64_t begin = b * args_.batch.K + graph(b).k, count = args_.batch.K - graph(b).k;
    const int64_t bytes = element_bytes(args_.batch.s_type);
    std::fill_n(out_.row + begin, count, int64_t{-1});
    std::fill_n(static_cast<T*>(out_.slope) + begin, count, T(0));
    std::fill_n(at(out_.quantile, args_.batch.s_type, begin), count * bytes, char{0});
  }

  // visit(rows, first, count) for tiles of the rows [begin, end) of a block of columns.
  template <typename Visit>
  void for_tiles(int64_t b, int64_t begin, int64_t end, int64_t column, int64_t thread,
                 const Visit& visit) const {
    for (int64_t i = begin; i < end; i += kRowTile) {
      const int64_t next = std::min(end, i + kRowTile);
      visit(rows(b, i, next, column, width(b, column), tiles_.of(thread)), i, next - i);
    }
  }

  void whole(int64_t b, int64_t column, Key* keys, int64_t thread) {
    const int64_t n = graph(b).n, columns = width(b, column);
    T q[kColumns] = {};
    if (n == 0) return finish(b, column, q, Sums());
    for_tiles(b, 0, n, column, thread, [&](const RowsView<const T>& tile, int64_t first, int64_t count) {
      for (int64_t i = 0; i < count; ++i) {
        for (int64_t k = 0; k < columns; ++k) keys[k * n + first + i] = Keys::key(tile.row(i)[k]);
      }
    });
    for (int64_t k = 0; k < columns; ++k) q[k] = Keys::value(select_largest(keys + k * n, n, rank(b)));
    finish(b, column, q, sums(b, 0, n, column, q, thread));
  }

  void large(int64_t b, int64_t column) {
    const int64_t n = graph(b).n, pieces = ceil_div(n, kPiece);
    T q[kColumns];
    select(b, column, q);
    std::vector<Sums> parts(static_cast<size_t>(pieces));
    run_tasks(context_.runtime, pieces, [&](int64_t piece, int64_t thread) {
      const int64_t end = std::min(n, (piece + 1) * kPiece);
      parts[static_cast<size_t>(piece)] = sums(b, piece * kPiece, end, column, q, thread);
    });
    for (size_t piece = 1; piece < parts.size(); ++piece) parts[0].add(parts[piece]);
    finish(b, column, q, parts[0]);
  }

  // How many bits of a key, from the highest one, tell entries of S apart: those of 16-bit floats end in zeros.
  int significant_bits() const {
    switch (args_.batch.s_type) {
      case DType::bf16: return 16;
      case DType::f16: return 19;
      default: return Keys::kBits;
    }
  }

  void select(int64_t b, int64_t column, T* q) {
    const int64_t n = graph(b).n, columns = width(b, column), pieces = ceil_div(n, kPiece);
    const int64_t workers = std::min(std::max<int64_t>(context_.runtime.threads, 1), pieces);
    const Buffer<uint32_t> counts(workers * kColumns * kCounts);
    Key prefix[kColumns] = {};
    int64_t ranks[kColumns];
    std::fill(ranks, ranks + kColumns, rank(b));
    const int lowest = Keys::kBits - significant_bits();
    for (int end = Keys::kBits; end > lowest;) {
      const int shift = std::max(end - kDigitBits, lowest);
      std::fill(counts.data(), counts.data() + workers * kColumns * kCounts, 0u);
      run_tasks(context_.runtime, pieces, [&](int64_t piece, int64_t thread) {
        uint32_t* const mine = counts.data() + thread * kColumns * kCounts;
        const int64_t last = std::min(n, (piece + 1) * kPiece);
        for_tiles(b, piece * kPiece, last, column, thread,
                  [&](const RowsView<const T>& tile, int64_t, int64_t rows_of_tile) {
                    if (end == Keys::kBits) {
                      count<true>(mine, tile, rows_of_tile, columns, prefix, shift, end);
                    } else {
                      count<false>(mine, tile, rows_of_tile, columns, prefix, shift, end);
                    }
                  });
      });
      for (int64_t k = 0; k < columns; ++k) {
        for (int64_t digit = (int64_t{1} << (end - shift)) - 1;; --digit) {
          int64_t equal = 0;
          for (int64_t w = 0; w < workers; ++w) equal += counts.data()[(w * kColumns + k) * kCounts + digit];
          if (equal > ranks[k]) {
            prefix[k] |= static_cast<Key>(digit) << shift;
            break;
          }
          ranks[k] -= equal;
        }
      }
      end = shift;
    }
    for (int64_t k = 0; k < columns; ++k) q[k] = Keys::value(prefix[k]);
  }

  // Counts the digits [shift, end) of keys whose higher digits are those of the prefix.
  template <bool first>
  static void count(uint32_t* counts, const RowsView<const T>& tile, int64_t rows_of_tile, int64_t columns,
                    const Key* prefix, int shift, int end) {
    const Key mask = (Key{1} << (end - shift)) - 1;
    for (int64_t i = 0; i < rows_of_tile; ++i) {
      const T* const x = tile.row(i);
      for (int64_t k = 0; k < columns; ++k) {
        const Key key = Keys::key(x[k]);
        uint32_t& digit = counts[k * kCounts + static_cast<int64_t>(key >> shift & mask)];
        if constexpr (first) {
          ++digit;
        } else {
          digit += key >> end == prefix[k] >> end;
        }
      }
    }
  }

  Sums sums(int64_t b, int64_t begin, int64_t end, int64_t column, const T* q, int64_t thread) const {
    Sums total;
    for_tiles(b, begin, end, column, thread,
              [&](const RowsView<const T>& tile, int64_t first, int64_t count) {
                T norm[kColumns] = {}, slope[kColumns] = {};
                context_.kernels.asymmetric_sums(norm, slope, total.row, tile.data, tile.ld, first, count, q,
                                                 width(b, column), rho(b));
                for (int64_t k = 0; k < width(b, column); ++k)
                  total.norm[k] += norm[k], total.slope[k] += slope[k];
              });
    return total;
  }

  void finish(int64_t b, int64_t column, const T* q, const Sums& total) {
    const Graph& g = graph(b);
    const int64_t begin = b * args_.batch.K + column;
    for (int64_t k = 0; k < width(b, column); ++k) {
      int64_t row = total.row[k];
      if (row < 0 && g.n > 0) row = first_equal(b, column + k, q[k]);
      out_.row[begin + k] = row < 0 ? row : g.row(row);
      norms_.data()[begin + k] = total.norm[k];
      static_cast<T*>(out_.slope)[begin + k] = static_cast<T>(g.n > 0 ? -total.slope[k] : 0);
    }
    const DType type = args_.batch.s_type;
    context_.kernels.store(at(out_.quantile, type, begin), type, q, width(b, column));
  }

  // The first row whose difference from q is not 0, though it is q: both are infinite or NaN.
  int64_t first_equal(int64_t b, int64_t column, T q) const {
    T scratch;
    int64_t i = 0;
    while (Keys::key(*rows(b, i, i + 1, column, 1, &scratch).data) != Keys::key(q)) ++i;
    return i;
  }

  const AsymmetricNormForward& out_;
  const Buffer<double> norms_;  // [B, K]
};

template <typename T>
class Backward : Rows<T> {
  using Base = Rows<T>;
  using Base::args_, Base::graph, Base::context_, Base::rho, Base::rows, Base::tiles_;

 public:
  Backward(const AsymmetricNormBackward& args, const Runtime& runtime)
      : Base(args.input, 2 * tile_rows(args.input.batch.K) * args.input.batch.K, runtime), in_(args) {}

  void run() {
    const PoolBatch& batch = args_.batch;
    const Buffer<T> quantile(batch.B * batch.K);
    context_.kernels.load(quantile.data(), in_.quantile, batch.s_type, batch.B * batch.K);
    struct Task {
      int64_t b, begin;
    };
    std::vector<Task> tasks;
    const int64_t step = tile_rows(batch.K);
    for (int64_t b = 0; b < batch.B; ++b) {
      for (int64_t begin = 0; begin == 0 || begin < graph(b).n; begin += step) tasks.push_back({b, begin});
    }
    run_tasks(context_.runtime, static_cast<int64_t>(tasks.size()), [&](int64_t i, int64_t thread) {
      const auto [b, begin] = tasks[static_cast<size_t>(i)];
      const int64_t end = std::min(graph(b).n, begin + step);
      if (begin < end) tile(b, begin, end, quantile.data() + b * batch.K, thread);
      if (begin == 0) clear_padding(b);
      add_through_quantile(b, begin, end);
    });
  }

 private:
  static int64_t tile_rows(int64_t k) {
    return std::clamp<int64_t>(kGradientElements / std::max<int64_t>(k, 1), 1, kPiece);
  }

  char* ds(int64_t b, int64_t row) const {
    return at(in_.ds, args_.batch.s_type, (graph(b).first_row + row) * args_.batch.K);
  }

  void tile(int64_t b, int64_t begin, int64_t end, const T* q, int64_t thread) const {
    const Graph& g = graph(b);
    const int64_t k = g.k, count = end - begin;
    const DType type = args_.batch.s_type;
    T* const scratch = tiles_.of(thread);
    const RowsView<const T> s = rows(b, begin, end, 0, k, scratch);
    const bool in_place = g.rows == nullptr && type == dtype_of<T>();
    T* const out =
        in_place ? reinterpret_cast<T*>(ds(b, begin)) : scratch + tile_rows(args_.batch.K) * args_.batch.K;
    const int64_t ld = in_place ? args_.batch.K : k;
    context_.kernels.asymmetric_gradient(out, ld, s.data, s.ld, count, q, k, dnorm(b), rho(b));
    for (int64_t i = begin; i < end; ++i) {
      char* const row = ds(b, g.row(i));
      if (!in_place) context_.kernels.store(row, type, out + (i - begin) * k, k);
      std::fill_n(row + k * element_bytes(type), (args_.batch.K - k) * element_bytes(type), char{0});
    }
  }

  T dnorm(int64_t b) const { return static_cast<const T*>(in_.dnorm)[b]; }

  void clear_padding(int64_t b) const {
    context_.for_padding(graph(b),
                         [&](int64_t begin, int64_t end) { std::fill(ds(b, begin), ds(b, end), char{0}); });
  }

  // To the entries that are quantiles, among the rows [begin, end).
  void add_through_quantile(int64_t b, int64_t begin, int64_t end) const {
    if (begin >= end) return;
    const int64_t columns = args_.batch.K, first = graph(b).row(begin), last = graph(b).row(end - 1);
    const DType type = args_.batch.s_type;
    for (int64_t k = 0; k < columns; ++k) {
      const int64_t row = in_.row[b * columns + k];
      if (row < first || row > last) continue;
      const T slope = static_cast<const T*>(in_.slope)[b * columns + k];
      const T value = dnorm(b) * (rho(b) + slope);
      context_.kernels.store(ds(b, row) + k * element_bytes(type), type, &value, 1);
    }
  }

  const AsymmetricNormBackward& in_;
};

}  // namespace

void asymmetric_norm_fwd(const AsymmetricNormForward& args, const Runtime& runtime) {
  with_accumulation_type(args.input.batch.is_double, [&]<typename T>(T) { Forward<T>(args, runtime).run(); });
}

void asymmetric_norm_bwd(const AsymmetricNormBackward& args, const Runtime& runtime) {
  with_accumulation_type(args.input.batch.is_double,
                         [&]<typename T>(T) { Backward<T>(args, runtime).run(); });
}

}  // namespace hierpool::cpu
