// The terms of S^T A S, row by row. Those of a cluster are runs: of each of its nodes a row of A S, in which equal columns
// are not merged, or, where these rows would take much memory, of each entry of A in that row a row of S.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <optional>
#include <type_traits>
#include <vector>

#include "cpu/buffer.h"
#include "cpu/tasks.h"
#include "hierpool/triple_product.h"

namespace hierpool::cpu {

// A sparse matrix with the types of its arrays.
template <typename I, typename T>
struct TypedCsr {
  explicit TypedCsr(const Csr& m)
      : rows(m.rows),
        rowptr(static_cast<const I*>(m.rowptr)),
        col(static_cast<const I*>(m.col)),
        value(static_cast<const T*>(m.value)) {}
  int64_t entries() const { return rowptr[rows]; }
  int64_t size(int64_t i) const { return rowptr[i + 1] - rowptr[i]; }
  double at(int64_t e) const { return value ? static_cast<double>(value[e]) : 1.0; }

  int64_t rows;
  const I* rowptr;
  const I* col;
  const T* value;
};

// One after the other, for each entry of a row of A, the row of S there times the entry.
template <typename I, typename T>
class UnmergedRows {
 public:
  UnmergedRows(const TypedCsr<I, T>& a, const TypedCsr<I, T>& s, bool values, const Runtime& runtime)
      : first_(a.rows + 1) {
    int64_t* first = first_.data();
    first[0] = 0;
    each_task(a, runtime, [&](int64_t begin, int64_t end, int64_t) {
      for (int64_t i = begin; i < end; ++i) {
        int64_t size = 0;
        for (I e = a.rowptr[i]; e < a.rowptr[i + 1]; ++e) size += s.size(a.col[e]);
        first[i + 1] = size;
      }
    });
    std::partial_sum(first, first + a.rows + 1, first);
    const int64_t limit = kMost * (a.entries() + s.entries());
    if (first[a.rows] > limit) return;
    col_ = buffer_in_large_pages<I>(first[a.rows]);
    if (values) value_ = buffer_in_large_pages<T>(first[a.rows]);
    each_task(a, runtime, [&](int64_t begin, int64_t end, int64_t) { fill(a, s, begin, end); });
  }

  bool exist() const { return col_.data() != nullptr; }
  int64_t size(int64_t i) const { return first_.data()[i + 1] - first_.data()[i]; }
  const I* col(int64_t i) const { return col_.data() + first_.data()[i]; }
  const T* value(int64_t i) const { return value_.data() ? value_.data() + first_.data()[i] : nullptr; }
  void prefetch_place(int64_t i) const { __builtin_prefetch(first_.data() + i); }
  void prefetch(int64_t i) const {
    constexpr int64_t kLines = 8;
    constexpr auto kLine = static_cast<int64_t>(64 / sizeof(I));
    for (int64_t n = 0; n < std::min(size(i), kLines * kLine); n += kLine) {
      __builtin_prefetch(col(i) + n);
      if (value_.data()) __builtin_prefetch(value(i) + n);
    }
  }

 private:
  static constexpr int64_t kMost = 4;  // elements for each entry of A and S

  template <typename Task>
  static void each_task(const TypedCsr<I, T>& a, const Runtime& runtime, const Task& task) {
    constexpr int64_t kWork = int64_t{1} << 15;
    run_row_tasks(
        runtime, a.rows, kWork, [&](int64_t i) { return static_cast<int64_t>(a.rowptr[i]) + i; }, task);
  }

  void fill(const TypedCsr<I, T>& a, const TypedCsr<I, T>& s, int64_t begin, int64_t end) {
    constexpr int64_t kAhead = 16;
    const int64_t last = a.rowptr[end];
    I* col = col_.data() + first_.data()[begin];
    T* value = value_.data() ? value_.data() + first_.data()[begin] : nullptr;
    for (int64_t e = a.rowptr[begin]; e < last; ++e) {
      if (e + 2 * kAhead < last) {
        __builtin_prefetch(s.rowptr + a.col[e + 2 * kAhead]);
        const I ahead = s.rowptr[a.col[e + kAhead]];
        __builtin_prefetch(s.col + ahead);
        if (value) __builtin_prefetch(s.value + ahead);
      }
      const int64_t j = a.col[e];
      for (I q = s.rowptr[j]; q < s.rowptr[j + 1]; ++q) {
        *col++ = s.col[q];
        if (value) *value++ = static_cast<T>(a.at(e) * s.at(q));
      }
    }
  }

  Buffer<int64_t> first_;
  Buffer<I> col_;
  Buffer<T> value_;
};

template <typename I, typename T>
class Terms {
 public:
  // Some terms of a member of a cluster, times `factor`.
  struct Run {
    const I* col;
    const T* value;  // null where values are not read
    int64_t size;
    double factor;
  };

  // `by_entry`: the runs are those of entries of A in any case.
  Terms(const TripleProduct& p, const Csr& a, bool values, bool by_entry, const Runtime& runtime)
      : a_(a),
        s_(p.s),
        clusters_(p.members.clusters),
        first_(static_cast<const I*>(p.members.first)),
        node_(static_cast<const I*>(p.members.node)),
        runtime_(runtime),
        work_(clusters_ + 1) {
    if (!by_entry) rows_.emplace(a_, s_, values, runtime);
    constexpr int64_t kRows = 4096;
    int64_t* work = work_.data();
    run_range_tasks(runtime, clusters_, kRows, [&](int64_t begin, int64_t end, int64_t) {
      for (int64_t k = begin; k < end; ++k) {
        work[k] = 1;
        for (I m = first_[k]; m < first_[k + 1]; ++m) work[k] += a_.size(node_[m]);
      }
    });
    work[clusters_] = 0;
    std::exclusive_scan(work, work + clusters_ + 1, work, int64_t{0});
  }

  // task(begin, end, thread) for ranges of clusters with about the same number of terms.
  template <typename Task>
  void each_task(const Task& task) const {
    constexpr int64_t kWork = int64_t{1} << 13;
    run_row_tasks(runtime_, clusters_, kWork, [&](int64_t k) { return work_.data()[k]; }, task);
  }

  // use(m, n, run) for the runs n = 0, 1, ... of each member m of a cluster, then between(m).
  template <typename Use, typename Between>
  void each(int64_t k, const Use& use, const Between& between) const {
    const I last = first_[clusters_];
    for (I m = first_[k]; m < first_[k + 1]; ++m) {
      const int64_t i = node_[m];
      if (rows_ && rows_->exist()) {  // the nodes of a cluster may be far apart in memory
        if (m + 8 < last) rows_->prefetch_place(node_[m + 8]), rows_->prefetch(node_[m + 4]);
        use(m, 0, Run{rows_->col(i), rows_->value(i), rows_->size(i), 1.0});
      } else {
        for (I e = a_.rowptr[i]; e < a_.rowptr[i + 1]; ++e) {
          const int64_t j = a_.col[e], first = s_.rowptr[j];
          use(m, e - a_.rowptr[i],
              Run{s_.col + first, s_.value ? s_.value + first : nullptr, s_.size(j), a_.at(e)});
        }
      }
      between(m);
    }
  }

  // As many terms as a row of the product may have.
  int64_t size(int64_t k) const {
    int64_t size = 0;
    for (I m = first_[k]; m < first_[k + 1]; ++m) {
      const int64_t i = node_[m];
      if (rows_) size += rows_->size(i);
    }
    return size;
  }
  int64_t clusters() const { return clusters_; }
  int64_t node(I m) const { return node_[m]; }

 private:
  TypedCsr<I, T> a_, s_;
  int64_t clusters_;
  const I* first_;
  const I* node_;
  const Runtime& runtime_;
  Buffer<int64_t> work_;
  std::optional<UnmergedRows<I, T>> rows_;
};

// Memory of each thread, made when it is first needed.
template <typename Scratch>
class PerThread {
 public:
  PerThread(const Runtime& runtime, int64_t columns)
      : all_(static_cast<size_t>(std::max<int64_t>(runtime.threads, 1))), columns_(columns) {}
  Scratch& operator[](int64_t thread) {
    auto& own = all_[static_cast<size_t>(thread)];
    if (!own) own = make();
    return *own;
  }
  int64_t size() const { return static_cast<int64_t>(all_.size()); }

 private:
  std::unique_ptr<Scratch> make() const {
    if constexpr (std::is_default_constructible_v<Scratch>)
      return std::make_unique<Scratch>();
    else
      return std::make_unique<Scratch>(columns_);
  }

  std::vector<std::unique_ptr<Scratch>> all_;
  int64_t columns_;
};

// Where the columns of a row are among them.
class ColumnPlaces {
 public:
  explicit ColumnPlaces(int64_t columns) : columns_(static_cast<size_t>(columns)) {}

  // `diagonal`: a column that comes behind the others, though it is none of them; negative: none.
  template <typename I>
  void set(const I* columns, int64_t count, int64_t diagonal) {
    is_long_ = count >= kShort;
    if (is_long_ && long_.empty()) long_.resize(columns_);
    if (!is_long_ && short_.empty()) short_.resize(columns_);
    for (int64_t n = 0; n < count; ++n) {
      const auto column = static_cast<size_t>(columns[n]);
      place_at(column, n);
    }
    if (diagonal >= 0) place_at(static_cast<size_t>(diagonal), count);
  }

  // use(places) with an array that has the place of each column of the row; of other columns it has any place.
  template <typename Use>
  void with(const Use& use) const {
    is_long_ ? use(long_.data()) : use(short_.data());
  }

 private:
  static constexpr int64_t kShort = int64_t{1} << 16;  // a small array stays in a cache

  void place_at(size_t column, int64_t n) {
    is_long_ ? void(long_[column] = n) : void(short_[column] = static_cast<uint16_t>(n));
  }

  size_t columns_;
  bool is_long_ = false;
  std::vector<uint16_t> short_;
  std::vector<int64_t> long_;
};

template <typename Run>
void with_index(const TripleProduct& p, const Run& run) {
  p.a.int64_index ? run(int64_t()) : run(int32_t());
}

}  // namespace hierpool::cpu
