// The total variation over the edges of dense graphs. Entries that are 0 are found row by row, and left out.
#include "cpu/accumulation.h"
#include "cpu/dense_adjacency.h"
#include "hierpool/total_variation.h"

namespace hierpool::cpu {
namespace {

constexpr int64_t kRows = 64;      // of a task
constexpr int64_t kColumns = 128;  // of A that are added to their mirror image at once
constexpr int64_t kSlack = 32;     // elements behind a row that may be written

// Some rows of a graph.
struct Rows {
  int64_t b, begin, end;
  int64_t count() const { return end - begin; }
};

template <typename T>
class DenseDifferences : protected DenseAdjacencyRows<T> {
 public:
  DenseDifferences(const DenseVariation& args, const DenseAdjacency& adjacency, const PoolContext<T>& context,
                   int64_t scratch)
      : DenseAdjacencyRows<T>(adjacency, context),
        args_(args),
        scratch_(3 * (context.batch.N + kSlack) + scratch, context.runtime),
        index_(context.batch.N + kSlack, context.runtime) {
    const PoolBatch& batch = context.batch;
    for (int64_t b = 0; b < batch.B; ++b) {
      context.place(s_, this->graph(b), args.s, batch.s_type, offset_of(b), args.s_stride_n, batch.K);
      for (int64_t i = 0; i < this->graph(b).n; i += kRows) {
        blocks_.push_back({b, i, std::min(i + kRows, this->graph(b).n)});
      }
    }
    s_.allocate();
    for_blocks([&](const Rows& rows, size_t, int64_t) {
      const RowsView<T>& s = s_[rows.b];
      if (!s.copied) return;
      context.load_rows(s.row(rows.begin), at(args.s, batch.s_type, offset_of(rows.b)), batch.s_type,
                        args.s_stride_n, this->graph(rows.b), rows.begin, rows.end, batch.K);
    });
  }

 protected:
  // Calls work(rows, number, thread) for every task.
  template <typename Work>
  void for_blocks(const Work& work) const {
    run_tasks(this->context_.runtime, static_cast<int64_t>(blocks_.size()), [&](int64_t i, int64_t thread) {
      const auto number = static_cast<size_t>(i);
      work(blocks_[number], number, thread);
    });
  }

  // The entries of a row of `count` elements that are not 0, as a sparse row; used until the thread asks for others.
  struct Entries {
    int32_t bounds[2];
    const int32_t* index;
    const T* value;
    SparseRows<T, int32_t> row() const { return {1, bounds, index, value}; }
  };
  Entries entries(const T* row, int64_t count, int64_t thread) const {
    T* value = scratch_.of(thread) + 2 * (this->batch_.N + kSlack);
    int32_t* index = index_.of(thread);
    return {{0, static_cast<int32_t>(this->kernels_.nonzeros(row, count, index, value))}, index, value};
  }

  T* row_buffer(int64_t thread) const { return scratch_.of(thread); }  // [2 N]
  T* more(int64_t thread) const { return scratch_.of(thread) + 3 * (this->batch_.N + kSlack); }

  const std::vector<Rows>& blocks() const { return blocks_; }
  const RowsView<T>& s(int64_t b) const { return s_[b]; }

 private:
  int64_t offset_of(int64_t b) const { return this->context_.offset(b, args_.s_stride_b, args_.s_stride_n); }

  const DenseVariation& args_;
  RowsViews<T> s_;
  std::vector<Rows> blocks_;
  Scratch<T> scratch_;
  Scratch<int32_t> index_;
};

template <typename T>
class Forward : DenseDifferences<T> {
 public:
  Forward(const DenseVariation& args, const DenseAdjacency& adjacency, const PoolContext<T>& context)
      : DenseDifferences<T>(args, adjacency, context, 0) {}

  void run(T* variation, T* entries) const {
    std::vector<VariationSum> sums(this->blocks().size());
    this->for_blocks(
        [&](const Rows& rows, size_t number, int64_t thread) { sums[number] = sum(rows, thread); });
    std::vector<VariationSum> totals(static_cast<size_t>(this->batch_.B));
    for (size_t i = 0; i < sums.size(); ++i) {
      VariationSum& total = totals[static_cast<size_t>(this->blocks()[i].b)];
      total.sum += sums[i].sum, total.entries += sums[i].entries;
    }
    for (size_t b = 0; b < totals.size(); ++b) {
      variation[b] = static_cast<T>(totals[b].sum), entries[b] = static_cast<T>(totals[b].entries);
    }
  }

 private:
  VariationSum sum(const Rows& rows, int64_t thread) const {
    const int64_t n = this->graph(rows.b).n, K = this->batch_.K;
    const RowsView<T>& s = this->s(rows.b);
    VariationSum total{0, 0};
    for (int64_t i = rows.begin; i < rows.end; ++i) {
      const auto entries = this->entries(this->row(rows.b, 0, i, this->row_buffer(thread), 0, n), n, thread);
      const VariationSum row = this->kernels_.variation32(K, s.row(i), s.ld, s.data, s.ld, entries.row());
      total.sum += row.sum, total.entries += row.entries;
    }
    return total;
  }
};

template <typename T>
class Backward : DenseDifferences<T> {
 public:
  Backward(const DenseVariation& args, const DenseAdjacency& adjacency, const PoolContext<T>& context,
           const T* dvariation, void* ds, void* dadjacency)
      : DenseDifferences<T>(args, adjacency, context, 3 * kRows * kColumns),
        dvariation_(dvariation),
        ds_(ds),
        gradient_(adjacency, context, dadjacency) {
    const PoolBatch& batch = context.batch;
    for (int64_t b = 0; b < batch.B; ++b) {
      const Graph& g = this->graph(b);
      if (ds_) context.place(grads_, g, ds_, batch.s_type, g.first_row * batch.K, batch.K, batch.K);
      if (gradient_.wanted()) columns_.add_copy(batch.K, g.n);
    }
    grads_.allocate();
    columns_.allocate();
  }

  void run() const {
    if (gradient_.wanted()) {
      this->for_blocks([&](const Rows& rows, size_t, int64_t) {
        for (int64_t i = rows.begin; i < rows.end; ++i) {
          for (int64_t k = 0; k < this->batch_.K; ++k) columns_[rows.b].row(k)[i] = this->s(rows.b).row(i)[k];
        }
      });
    }
    this->for_blocks([&](const Rows& rows, size_t, int64_t thread) {
      if (ds_) gradient_of_s(rows, thread);
      if (gradient_.wanted()) gradient_of_a(rows, thread);
    });
    run_tasks(this->context_.runtime, this->batch_.B, [&](int64_t b, int64_t) { clear_padding(b); });
  }

 private:
  void gradient_of_s(const Rows& rows, int64_t thread) const {
    const int64_t n = this->graph(rows.b).n, K = this->batch_.K;
    const RowsView<T>&s = this->s(rows.b), &ds = grads_[rows.b];
    for (int64_t j0 = 0; j0 < n; j0 += kColumns) {
      const int64_t j1 = std::min(j0 + kColumns, n);
      const T* both = with_mirror_image(rows, j0, j1, thread);
      for (int64_t i = rows.begin; i < rows.end; ++i) {
        const auto entries = this->entries(both + (i - rows.begin) * kColumns, j1 - j0, thread);
        this->kernels_.signs32(ds.row(i), K, K, s.row(i), s.ld, s.row(j0), s.ld,
                               j1 == n ? dvariation_[rows.b] : T(1), j0 > 0, entries.row());
      }
    }
    if (!ds.copied) return;
    for (int64_t i = rows.begin; i < rows.end; ++i) {
      this->kernels_.store(ds_row(rows.b, this->graph(rows.b).row(i)), this->batch_.s_type, ds.row(i), K);
    }
  }

  // a_ij + a_ji of the rows and of the columns [j0, j1), rows kColumns apart.
  const T* with_mirror_image(const Rows& rows, int64_t j0, int64_t j1, int64_t thread) const {
    const int64_t count = j1 - j0;
    T* buffer = this->row_buffer(thread);
    T* both = this->more(thread);
    T* mirror = both + kRows * kColumns;        // [count, kRows]
    T* transposed = mirror + kRows * kColumns;  // [rows, count]
    for (int64_t j = j0; j < j1; ++j) {
      std::copy_n(this->row(rows.b, 0, j, buffer, rows.begin, rows.end), rows.count(),
                  mirror + (j - j0) * kRows);
    }
    this->kernels_.transpose(transposed, mirror, kRows, count, rows.count());
    for (int64_t i = 0; i < rows.count(); ++i) {
      std::copy_n(this->row(rows.b, 0, rows.begin + i, buffer, j0, j1), count, both + i * kColumns);
      this->kernels_.axpy(both + i * kColumns, T(1), transposed + i * count, count);
    }
    return both;
  }

  void gradient_of_a(const Rows& rows, int64_t thread) const {
    const int64_t n = this->graph(rows.b).n, K = this->batch_.K;
    T *values = this->more(thread), *buffer = values + kColumns;
    for (int64_t j = 0; j < n; j += kColumns) {
      const int64_t count = std::min(kColumns, n - j);
      for (int64_t i = rows.begin; i < rows.end; ++i) {
        this->kernels_.distances_to_columns(values, count, K, this->s(rows.b).row(i),
                                            columns_[rows.b].data + j, n, dvariation_[rows.b]);
        gradient_.store(rows.b, i, j, values, count, buffer);
      }
    }
  }

  void* ds_row(int64_t b, int64_t node) const {
    const PoolBatch& batch = this->batch_;
    return at(ds_, batch.s_type, (this->graph(b).first_row + node) * batch.K);
  }

  void clear_padding(int64_t b) const {
    gradient_.clear_padding(b);
    if (ds_ == nullptr) return;
    const int64_t bytes = this->batch_.K * element_bytes(this->batch_.s_type);
    this->context_.for_padding(this->graph(b), [&](int64_t first, int64_t last) {
      std::memset(ds_row(b, first), 0, static_cast<size_t>((last - first) * bytes));
    });
  }

  const T* dvariation_;
  void* ds_;
  DenseAdjacencyGradient<T> gradient_;
  RowsViews<T> grads_, columns_;
};

template <typename T>
PoolContext<T> context_of(const DenseVariation& args, const Runtime& runtime) {
  return {args.batch, runtime, [](int64_t, int64_t) { return std::vector<int64_t>(); }};
}

}  // namespace

void total_variation_fwd(const DenseVariation& args, const DenseAdjacency& adjacency, void* variation,
                         void* entries, const Runtime& runtime) {
  with_accumulation_type(args.batch.is_double, [&]<typename T>(T) {
    const PoolContext<T> context = context_of<T>(args, runtime);
    Forward<T>(args, adjacency, context).run(static_cast<T*>(variation), static_cast<T*>(entries));
  });
}

void total_variation_bwd(const DenseVariation& args, const DenseAdjacency& adjacency, const void* dvariation,
                         void* ds, void* dadjacency, const Runtime& runtime) {
  with_accumulation_type(args.batch.is_double, [&]<typename T>(T) {
    const PoolContext<T> context = context_of<T>(args, runtime);
    Backward<T>(args, adjacency, context, static_cast<const T*>(dvariation), ds, dadjacency).run();
  });
}

}  // namespace hierpool::cpu
