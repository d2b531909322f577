// What is true of a matrix in compressed rows: its checks, its symmetry; and of the batch it belongs to.
#include <atomic>
#include <vector>

#include "cpu/edge_sort.h"
#include "cpu/graph_cursor.h"
#include "hierpool/graph_build.h"

namespace hierpool::cpu {
namespace {

template <typename I>
bool ascend(int64_t count, const I* ptr, int64_t last) {
  bool all = ptr[0] == 0 && static_cast<int64_t>(ptr[count - 1]) == last;
  for (int64_t i = 1; i < count; ++i) all &= ptr[i - 1] <= ptr[i];
  return all;
}

template <typename I>
int64_t row_of_entry(const I* rowptr, int64_t rows, int64_t e) {
  return std::upper_bound(rowptr, rowptr + rows + 1, static_cast<I>(e)) - rowptr - 1;
}

// Entries above the diagonal are looked for below it; with as many below it as above, all of them are found.
template <typename I, typename Bits>
class Symmetry {
 public:
  explicit Symmetry(const Csr& a)
      : rows_(a.rows),
        rowptr_(static_cast<const I*>(a.rowptr)),
        col_(static_cast<const I*>(a.col)),
        value_(static_cast<const Bits*>(a.value)) {}

  bool holds(const Runtime& runtime) {
    const int64_t entries = rowptr_[rows_];
    std::atomic<bool> fails{false};
    std::atomic<int64_t> excess{0};  // entries above the diagonal beyond those below it
    run_range_tasks(runtime, entries, kEntries, [&](int64_t begin, int64_t end, int64_t) {
      if (fails.load(std::memory_order_relaxed)) return;
      int64_t own = 0;
      if (!mirrored(begin, end, own)) fails.store(true, std::memory_order_relaxed);
      excess.fetch_add(own, std::memory_order_relaxed);
    });
    return !fails.load() && excess.load() == 0;
  }

 private:
  static constexpr int64_t kEntries = int64_t{1} << 13;
  static constexpr int64_t kAhead = 16;

  bool mirrored(int64_t begin, int64_t end, int64_t& excess) const {
    const int64_t entries = rowptr_[rows_];
    int64_t row = row_of_entry(rowptr_, rows_, begin);
    for (int64_t e = begin; e < end; ++e) {
      while (rowptr_[row + 1] <= e) ++row;
      if (e + 2 * kAhead < entries) __builtin_prefetch(rowptr_ + col_[e + 2 * kAhead]);
      if (e + kAhead < entries) __builtin_prefetch(col_ + rowptr_[col_[e + kAhead]]);
      const int64_t column = col_[e];
      if (column == row) continue;
      excess += column > row ? 1 : -1;
      if (column < row) continue;
      const I* last = col_ + rowptr_[column + 1];
      const I* mirror = std::lower_bound(col_ + rowptr_[column], last, static_cast<I>(row));
      if (mirror == last || *mirror != row) return false;
      if (value_ && value_[mirror - col_] != value_[e]) return false;
    }
    return true;
  }

  int64_t rows_;
  const I* rowptr_;
  const I* col_;
  const Bits* value_;
};

template <typename I>
bool is_symmetric(const Csr& a, int64_t value_bytes, const Runtime& runtime) {
  switch (value_bytes) {
    case 2: return Symmetry<I, uint16_t>(a).holds(runtime);
    case 4: return Symmetry<I, uint32_t>(a).holds(runtime);
    default: return Symmetry<I, uint64_t>(a).holds(runtime);
  }
}

// Whether the columns of the rows [begin, end) ascend, are in range, and stay in the graph of the row.
template <typename I>
CsrInspection inspect_rows(const Csr& a, int64_t graphs, const int64_t* ptr, int64_t begin, int64_t end) {
  const auto* rowptr = static_cast<const I*>(a.rowptr);
  const auto* col = static_cast<const I*>(a.col);
  GraphCursor graph(graphs, ptr);
  CsrInspection found{{}, true};
  for (int64_t row = begin; row < end; ++row) {
    for (int64_t e = rowptr[row]; e < rowptr[row + 1]; ++e) {
      const int64_t column = col[e];
      if (column < 0 || column >= a.rows) return {{CsrError::column_range, e, 0}, false};
      if (!graph.holds(row, column)) return {{CsrError::crossing, row, column}, false};
      if (e > rowptr[row]) found.canonical &= col[e - 1] < col[e];
    }
  }
  return found;
}

template <typename I>
CsrInspection inspect(const Csr& a, int64_t graphs, const int64_t* ptr, const Runtime& runtime) {
  constexpr int64_t kRows = int64_t{1} << 12;
  std::vector<CsrInspection> found(static_cast<size_t>(ceil_div(a.rows, kRows)));
  run_range_tasks(runtime, a.rows, kRows, [&](int64_t begin, int64_t end, int64_t) {
    found[static_cast<size_t>(begin / kRows)] = inspect_rows<I>(a, graphs, ptr, begin, end);
  });
  CsrInspection all{{}, true};
  for (const CsrInspection& part : found) {
    if (all.error.kind == CsrError::none) all.error = part.error;
    all.canonical &= part.canonical;
  }
  return all;
}

}  // namespace

bool csr_pointers_ascend(int64_t count, bool int64_index, const void* ptr, int64_t last) {
  return int64_index ? ascend(count, static_cast<const int64_t*>(ptr), last)
                     : ascend(count, static_cast<const int32_t*>(ptr), last);
}

bool csr_is_symmetric(const Csr& a, int64_t value_bytes, const Runtime& runtime) {
  return a.int64_index ? is_symmetric<int64_t>(a, value_bytes, runtime)
                       : is_symmetric<int32_t>(a, value_bytes, runtime);
}

CsrInspection csr_inspect(const Csr& a, int64_t entries, int64_t graphs, const int64_t* ptr,
                          const Runtime& runtime) {
  if (!csr_pointers_ascend(a.rows + 1, a.int64_index, a.rowptr, entries)) {
    return {{CsrError::row_pointer, 0, 0}, false};
  }
  if (!csr_pointers_ascend(graphs + 1, true, ptr, a.rows)) return {{CsrError::graph_pointer, 0, 0}, false};
  return a.int64_index ? inspect<int64_t>(a, graphs, ptr, runtime)
                       : inspect<int32_t>(a, graphs, ptr, runtime);
}

bool csr_sort_batch(int64_t nodes, const int64_t* batch, int64_t graphs, int64_t* ptr, int64_t* order,
                    int64_t* rank) {
  std::fill_n(ptr, graphs + 1, 0);
  bool sorted = true;
  for (int64_t i = 0; i < nodes; ++i) {
    ++ptr[batch[i] + 1];
    sorted &= i == 0 || batch[i - 1] <= batch[i];
  }
  for (int64_t b = 0; b < graphs; ++b) ptr[b + 1] += ptr[b];
  if (sorted) return true;
  std::vector<int64_t> next(ptr, ptr + graphs);
  for (int64_t i = 0; i < nodes; ++i) {
    rank[i] = next[static_cast<size_t>(batch[i])]++;
    order[rank[i]] = i;
  }
  return false;
}

}  // namespace hierpool::cpu
