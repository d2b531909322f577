#include "hierpool/graph_build.h"

#include <atomic>
#include <type_traits>
#include <vector>

#include "cpu/edge_sort.h"
#include "cpu/graph_cursor.h"

namespace hierpool::cpu {
namespace {

template <typename I>
class EdgeList {
 public:
  EdgeList(const Edges& e, const void* row, const void* col)
      : edges_(e), row_(static_cast<const I*>(row)), col_(static_cast<const I*>(col)) {}

  int64_t nodes() const { return edges_.nodes; }
  int64_t edges() const { return edges_.edges; }
  int64_t row(int64_t e) const { return row_[e]; }
  int64_t col(int64_t e) const { return col_[e]; }

  template <typename F>
  void each(int64_t begin, int64_t end, const F& f) const {
    for (int64_t e = begin; e < end; ++e) f(row(e), col(e), e);
  }

  CsrError out_of_range(int64_t begin, int64_t end) const {
    const auto n = static_cast<uint64_t>(edges_.nodes);
    const auto wrong = [n](I i) { return static_cast<uint64_t>(static_cast<int64_t>(i)) >= n; };
    bool any = false;
    for (int64_t e = begin; e < end; ++e) any |= wrong(row_[e]) | wrong(col_[e]);
    for (int64_t e = begin; any && e < end; ++e) {
      if (wrong(row_[e])) return {CsrError::row_range, e, 0};
      if (wrong(col_[e])) return {CsrError::column_range, e, 0};
    }
    return {};
  }

  // The edges, all in range, by the ranks of their ends.
  void renumber(I* row, I* col, const Runtime& runtime) const {
    run_range_tasks(runtime, edges(), kChunkEdges, [&](int64_t begin, int64_t end, int64_t) {
      for (int64_t e = begin; e < end; ++e) {
        row[e] = static_cast<I>(edges_.rank[row_[e]]);
        col[e] = static_cast<I>(edges_.rank[col_[e]]);
      }
    });
  }

  // Whether the edges [begin, end) and the one before them ascend.
  bool ascend(int64_t begin, int64_t end) const {
    bool all = true;
    for (int64_t e = std::max<int64_t>(begin, 1); e < end; ++e) {
      all &= (row_[e - 1] < row_[e]) | ((row_[e - 1] == row_[e]) & (col_[e - 1] < col_[e]));
    }
    return all;
  }

 private:
  const Edges& edges_;
  const I* row_;
  const I* col_;
};

// The first of the errors of tasks, in their order.
class Errors {
 public:
  explicit Errors(int64_t tasks) : found_(static_cast<size_t>(tasks)) {}
  CsrError& operator[](int64_t task) { return found_[static_cast<size_t>(task)]; }
  CsrError first() const {
    for (const CsrError& error : found_) {
      if (error.kind != CsrError::none) return error;
    }
    return {};
  }

 private:
  std::vector<CsrError> found_;
};

struct Scan {
  CsrError error;
  bool ascends;
};

// Checks the range of all edges, and whether they ascend, until they do not.
template <typename I>
Scan scan(const EdgeList<I>& edges, const Runtime& runtime) {
  Errors errors(ceil_div(edges.edges(), kChunkEdges));
  std::atomic<bool> ascends{true};
  run_range_tasks(runtime, edges.edges(), kChunkEdges, [&](int64_t begin, int64_t end, int64_t) {
    errors[begin / kChunkEdges] = edges.out_of_range(begin, end);
    if (ascends.load(std::memory_order_relaxed) && !edges.ascend(begin, end)) {
      ascends.store(false, std::memory_order_relaxed);
    }
  });
  return {errors.first(), ascends.load()};
}

// Index of the outputs and of the edges, and the type in which weights are summed.
template <typename Index, typename Value>
class Builder {
 public:
  Builder(const GraphBuild& build, const Runtime& runtime)
      : build_(build), runtime_(runtime), nodes_(build.edges.nodes) {}

  template <typename I>
  BuiltGraph run(const EdgeList<I>& edges) {
    const Scan found = scan(edges, runtime_);
    built_.error = found.error;
    if (found.error.kind != CsrError::none) return built_;
    if (build_.edges.rank == nullptr) return run(edges, found.ascends);
    const Buffer<I> row(edges.edges()), col(edges.edges());
    edges.renumber(row.data(), col.data(), runtime_);
    const EdgeList<I> renumbered(build_.edges, row.data(), col.data());
    return run(renumbered, scan(renumbered, runtime_).ascends);
  }

 private:
  template <typename I>
  BuiltGraph run(const EdgeList<I>& edges, bool ascends) {
    if (ascends) {
      copy(edges);
    } else {
      const bool want_id = build_.want_slot || (build_.merge && build_.edges.weight != nullptr);
      with_sorted_edges(edges, nodes_, want_id, runtime_, [&](auto& sorted) { sort(sorted, want_id); });
    }
    built_.matrix = {nodes_, std::is_same_v<Index, int64_t>, rowptr_, col_, value_};
    return built_;
  }

  template <typename T>
  T* allocate(GraphBuild::Output output, int64_t count) {
    return static_cast<T*>(build_.allocate(build_.context, output, count));
  }

  template <typename I>
  void copy(const EdgeList<I>& edges) {
    const int64_t count = edges.edges();
    rowptr_ = allocate<Index>(GraphBuild::rowptr, nodes_ + 1);
    col_ = allocate<Index>(GraphBuild::col, count);
    built_.as_given = true;
    Errors errors(ceil_div(count, kChunkEdges));
    run_range_tasks(runtime_, count, kChunkEdges, [&](int64_t begin, int64_t end, int64_t) {
      CsrError& error = errors[begin / kChunkEdges];
      int64_t row = begin == 0 ? -1 : edges.row(begin - 1);
      GraphCursor graph(build_.edges.graphs, build_.edges.ptr);
      for (int64_t e = begin; e < end; ++e) {
        const int64_t i = edges.row(e), j = edges.col(e);
        while (row < i) rowptr_[++row] = static_cast<Index>(e);
        col_[e] = static_cast<Index>(j);
        if (!graph.holds(i, j) && error.kind == CsrError::none) error = {CsrError::crossing, i, j};
      }
    });
    const int64_t last = count == 0 ? -1 : edges.row(count - 1);
    std::fill(rowptr_ + last + 1, rowptr_ + nodes_ + 1, static_cast<Index>(count));
    built_.error = errors.first();
  }

  template <typename Sorted>
  void sort(Sorted& sorted, bool want_id) {
    const int64_t blocks = sorted.blocks(), edges = build_.edges.edges;
    std::vector<int64_t> first(static_cast<size_t>(blocks) + 1);  // entry of each block
    run_tasks(runtime_, blocks,
              [&](int64_t b, int64_t) { first[static_cast<size_t>(b)] = sorted.sort_block(b); });
    std::exclusive_scan(first.begin(), first.end(), first.begin(), int64_t{0});
    const int64_t places = first.back(), entries = build_.merge ? places : edges;
    rowptr_ = allocate<Index>(GraphBuild::rowptr, nodes_ + 1);
    col_ = allocate<Index>(GraphBuild::col, entries);
    built_.has_value = build_.merge && (build_.edges.weight != nullptr || places < edges);
    value_ = built_.has_value ? allocate<Value>(GraphBuild::value, entries) : nullptr;
    slot_ = build_.want_slot ? allocate<Index>(GraphBuild::slot, edges) : nullptr;
    Errors errors(blocks);
    run_tasks(runtime_, blocks, [&](int64_t b, int64_t) {
      const int64_t out = build_.merge ? first[static_cast<size_t>(b)] : sorted.start(b);
      errors[b] = want_id ? write<true>(sorted, b, out) : write<false>(sorted, b, out);
    });
    rowptr_[nodes_] = static_cast<Index>(entries);
    built_.error = errors.first();
  }

  // The entries of a block, from `out` on.
  template <bool has_id, typename Sorted>
  CsrError write(const Sorted& sorted, int64_t block, int64_t out) {
    const Layout& layout = sorted.layout();
    const auto* weight = static_cast<const Value*>(build_.edges.weight);
    const auto* item = sorted.items() + sorted.start(block);
    const auto* const end = sorted.items() + sorted.start(block + 1);
    const int64_t first_row = sorted.first_row(block), last_row = sorted.last_row(block);
    GraphCursor graph(build_.edges.graphs, build_.edges.ptr);
    CsrError error;
    for (int64_t row = first_row; row < last_row; ++row) {
      const int64_t first = out;
      rowptr_[row] = static_cast<Index>(first);
      int64_t place = out;  // of the last edge
      for (; item < end && row_of(*item, layout) == row - first_row; ++item) {
        if (has_id && weight && end - item > kAhead) __builtin_prefetch(weight + item[kAhead].id(layout));
        const bool repeated = out > first && item[-1].place(layout) == item->place(layout);
        if (!repeated) place = out;
        if (!repeated || !build_.merge) col_[out++] = static_cast<Index>(col_of(*item, layout));
        const int64_t id = has_id ? static_cast<int64_t>(item->id(layout)) : 0;
        if (value_) value_[place] = (repeated ? value_[place] : 0) + (has_id && weight ? weight[id] : 1);
        if (has_id && slot_) slot_[id] = static_cast<Index>(place);
      }
      if (out > first && error.kind == CsrError::none) {
        for (int64_t column : {static_cast<int64_t>(col_[first]), static_cast<int64_t>(col_[out - 1])}) {
          if (!graph.holds(row, column)) error = {CsrError::crossing, row, column};
        }
      }
    }
    return error;
  }

  static constexpr int64_t kAhead = 16;

  const GraphBuild& build_;
  const Runtime& runtime_;
  int64_t nodes_;
  BuiltGraph built_{};
  Index* rowptr_ = nullptr;
  Index* col_ = nullptr;
  Value* value_ = nullptr;
  Index* slot_ = nullptr;
};

template <typename Index, typename Value>
BuiltGraph build(const GraphBuild& b, const Runtime& runtime) {
  Builder<Index, Value> builder(b, runtime);
  return b.edges.int64_index ? builder.run(EdgeList<int64_t>(b.edges, b.edges.row, b.edges.col))
                             : builder.run(EdgeList<int32_t>(b.edges, b.edges.row, b.edges.col));
}

// The edges of the transpose.
template <typename I>
class Reversed {
 public:
  Reversed(const Csr& a, int64_t columns)
      : rows_(a.rows),
        columns_(columns),
        rowptr_(static_cast<const I*>(a.rowptr)),
        col_(static_cast<const I*>(a.col)) {}

  int64_t nodes() const { return columns_; }
  int64_t edges() const { return rowptr_[rows_]; }

  template <typename F>
  void each(int64_t begin, int64_t end, const F& f) const {
    int64_t row = std::upper_bound(rowptr_, rowptr_ + rows_ + 1, static_cast<I>(begin)) - rowptr_ - 1;
    for (int64_t e = begin; e < end; ++e) {
      while (rowptr_[row + 1] <= e) ++row;
      f(static_cast<int64_t>(col_[e]), row, e);
    }
  }

 private:
  int64_t rows_, columns_;
  const I* rowptr_;
  const I* col_;
};

template <typename I>
void transpose(const Csr& a, int64_t columns, I* rowptr, I* col, I* source, const Runtime& runtime) {
  const Reversed<I> edges(a, columns);
  with_sorted_edges(edges, a.rows, true, runtime, [&](auto& sorted) {
    run_tasks(runtime, sorted.blocks(), [&](int64_t block, int64_t) {
      sorted.sort_block(block);
      const Layout& layout = sorted.layout();
      int64_t e = sorted.start(block);
      const int64_t end = sorted.start(block + 1), first_row = sorted.first_row(block);
      for (int64_t row = first_row; row < sorted.last_row(block); ++row) {
        rowptr[row] = static_cast<I>(e);
        for (; e < end && row_of(sorted.items()[e], layout) == row - first_row; ++e) {
          col[e] = static_cast<I>(col_of(sorted.items()[e], layout));
          source[e] = static_cast<I>(sorted.items()[e].id(layout));
        }
      }
    });
  });
  rowptr[columns] = static_cast<I>(edges.edges());
}

template <typename I>
void ranges(int64_t count, const I* offsets, I* range, const Runtime& runtime) {
  constexpr int64_t kElements = int64_t{1} << 16;  // and ranges, of one task
  const int64_t shift = offsets[0], work = offsets[count] - shift + count;
  run_row_tasks(
      for_work(runtime, work), count, kElements, [&](int64_t r) { return offsets[r] - shift + r; },
      [&](int64_t begin, int64_t end, int64_t) {
        for (int64_t r = begin; r < end; ++r)
          std::fill(range + (offsets[r] - shift), range + (offsets[r + 1] - shift), static_cast<I>(r));
      });
}

}  // namespace

BuiltGraph csr_build(const GraphBuild& b, const Runtime& runtime) {
  if (b.int64_index) {
    return b.edges.double_weight ? build<int64_t, double>(b, runtime) : build<int64_t, float>(b, runtime);
  }
  return b.edges.double_weight ? build<int32_t, double>(b, runtime) : build<int32_t, float>(b, runtime);
}

void csr_transpose(const Csr& a, int64_t columns, void* rowptr, void* col, void* source,
                   const Runtime& runtime) {
  if (a.int64_index) {
    transpose(a, columns, static_cast<int64_t*>(rowptr), static_cast<int64_t*>(col),
              static_cast<int64_t*>(source), runtime);
  } else {
    transpose(a, columns, static_cast<int32_t*>(rowptr), static_cast<int32_t*>(col),
              static_cast<int32_t*>(source), runtime);
  }
}

void csr_ranges(int64_t count, bool int64_index, const void* offsets, void* range, const Runtime& runtime) {
  const auto fill = [&]<typename I>(I) {
    ranges(count, static_cast<const I*>(offsets), static_cast<I*>(range), runtime);
  };
  int64_index ? fill(int64_t{}) : fill(int32_t{});
}

}  // namespace hierpool::cpu
