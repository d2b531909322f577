// The graph of the clusters of a symmetric graph without values. No columns are sorted: each entry is written to the row of
// its column, so that a row finds its columns in the order of the rows that they come from.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include "cpu/buffer.h"
#include "cpu/member_rows.h"
#include "cpu/tasks.h"
#include "hierpool/graph_contract.h"

namespace hierpool::cpu {

// Whether it is found in less time than by sorting: not if there are few columns, which are bits of words, or few entries of
// each row.
inline bool can_be_turned(const GraphContract& c) {
  constexpr int64_t kFewColumns = 4096;
  if (!c.symmetric || c.injective || c.want_slot || (c.want_sum && c.graph.value)) return false;
  const int64_t all[] = {0, c.members.clusters};
  int64_t most = 0;
  for (const int64_t* ptr = c.ptr ? c.ptr : all; *ptr < c.members.clusters; ++ptr)
    most = std::max(most, ptr[1] - ptr[0]);
  return most >= kFewColumns;
}

// kSum: numbers of entries are wanted, too. Rows that are not far apart are a bucket, of which a cache holds what is written:
// the entries of some rows are first divided among the buckets of their columns, then those of a bucket among its rows.
template <typename I, typename T, bool kSum>
class TurnedGraph {
 public:
  TurnedGraph(const GraphContract& c, const Runtime& runtime)
      : c_(c),
        runtime_(runtime),
        members_(c),
        rows_(c.members.clusters),
        bits_(std::clamp<int>(std::bit_width(static_cast<uint64_t>(rows_)) - kBucketBits, kLeastBits, kHalf)),
        buckets_(ceil_div(rows_, int64_t{1} << bits_)) {}

  // Nothing if the places of entries turn out not to be symmetric. Outputs are allocated only if they are.
  std::optional<ContractedGraph> run() {
    bounds_ = members_.entries_before(runtime_);
    find_divisions();
    if (kSum && c_.loops == Loops::apart) loops_ = Buffer<T>(rows_);
    items_ = Buffer<uint32_t>(bound(rows_));
    groups_.resize((divisions_.size() - 1) * static_cast<size_t>(buckets_ + 1));
    std::vector<Scratch> scratch(static_cast<size_t>(std::max<int64_t>(runtime_.threads, 1)));
    run_tasks(runtime_, static_cast<int64_t>(divisions_.size()) - 1,
              [&](int64_t d, int64_t thread) { divide(d, scratch[static_cast<size_t>(thread)]); });
    found_col_ = Buffer<I>(bound(rows_));
    if (kSum) found_sum_ = Buffer<T>(bound(rows_));
    counts_ = Buffer<I>(rows_);
    run_tasks(runtime_, buckets_,
              [&](int64_t b, int64_t thread) { fill(b, scratch[static_cast<size_t>(thread)]); });
    items_ = {};
    if (!symmetric_) return {};
    return write();
  }

 private:
  static constexpr int kHalf = 16;       // bits of a row of a division, and of one of a bucket
  static constexpr int kBucketBits = 9;  // of the number of buckets
  static constexpr int kLeastBits = 9;   // of the rows of a bucket
  static constexpr int64_t kDivision = int64_t{1} << 15;  // entries and rows of a division

  struct Column {
    I col;
  };
  struct Counted {
    I col;
    I count;
  };
  using Cell = std::conditional_t<kSum, Counted, Column>;
  struct Row {
    I place;  // of its last entry
    I col;    // of that
  };
  template <typename Element>
  class Memory {
   public:
    Element* reserve(int64_t count) {
      if (count > count_) memory_ = Buffer<Element>(count_ = count + count / 4);
      return memory_.data();
    }

   private:
    Buffer<Element> memory_;
    int64_t count_ = 0;
  };
  // Of a thread.
  struct Scratch {
    Memory<I> columns, ends, lasts;
    Memory<Row> rows;
    Memory<Cell> cells;
  };

  // As many entries as there may be at most before row k.
  int64_t bound(int64_t k) const { return bounds_.data()[k]; }

  // divisions_: first rows of ranges of about the same work, and the end of the last one.
  void find_divisions() {
    for (int64_t k = 0; k < rows_; ++k) {
      if (k == 0 || bound(k) + k - bound(divisions_.back()) - divisions_.back() >= kDivision)
        divisions_.push_back(k);
    }
    divisions_.push_back(rows_);
  }

  // [buckets + 1]: where the items of each bucket begin in those of a division.
  I* groups(int64_t division) { return groups_.data() + division * (buckets_ + 1); }

  // items_: the entries of the rows of a division, bucket by bucket, as the number of the row in the division and that of
  // the column in its bucket.
  void divide(int64_t d, Scratch& scratch) {
    const int64_t begin = divisions_[static_cast<size_t>(d)], end = divisions_[static_cast<size_t>(d) + 1];
    const I *const rowptr = members_.rowptr, *const col = members_.col, *const cluster = members_.cluster;
    const I *const first = members_.first, *const node = members_.node;
    const int bits = bits_;
    I* const column = scratch.columns.reserve(bound(end) - bound(begin) + 1);
    I* const ends = scratch.ends.reserve(end - begin);
    I* const last = scratch.lasts.reserve(buckets_ + 1) + 1;  // of each bucket; before them, of dropped nodes
    std::fill_n(last - 1, buckets_ + 1, I(0));
    I n = 0;
    for (int64_t k = begin; k < end; ++k) {
      const int64_t barred = c_.loops == Loops::keep ? -1 : k;
      I loops = 0;
      const I last_member = first[k + 1];
      for (I m = first[k]; m < last_member; ++m) {
        members_.template prefetch<T>(m, nullptr);
        const I stop = rowptr[node[m] + 1];
        for (I e = rowptr[node[m]]; e < stop; ++e) {
          const I l = cluster[col[e]];
          const I kept = (l >= 0) & (l != barred);
          column[n] = l;
          n += kept;
          last[l >> bits] += kept;
          loops += l == barred;
        }
      }
      if (loops_.data()) loops_.data()[k] = static_cast<T>(loops);
      ends[k - begin] = n;
    }
    I sum = 0;
    for (int64_t b = 0; b < buckets_; ++b) sum += std::exchange(last[b], sum);
    uint32_t* const items = items_.data() + bound(begin);
    const I in_bucket = (I(1) << bits) - 1;
    I at = 0;
    for (int64_t k = begin; k < end; ++k) {
      const auto row = static_cast<uint32_t>(k - begin) << kHalf;
      for (; at < ends[k - begin]; ++at) {
        const I l = column[at];
        items[last[l >> bits]++] = row | static_cast<uint32_t>(l & in_bucket);
      }
    }
    std::copy_n(last - 1, buckets_ + 1, groups(d));
    kept_ += n;
  }

  // counts_ of the rows of a bucket, and what was found for them, one row after the other.
  void fill(int64_t b, Scratch& scratch) {
    const int64_t begin = b << bits_, end = std::min(rows_, (b + 1) << bits_), start = bound(begin);
    const int64_t full = bound(end) - start;
    Row* const rows = scratch.rows.reserve(end - begin);
    Cell* const cells = scratch.cells.reserve(full + 1);
    for (int64_t k = begin; k < end; ++k) rows[k - begin] = {static_cast<I>(bound(k) - start - 1), I(-1)};
    for (size_t d = 0; d + 1 < divisions_.size(); ++d) {
      const I first = static_cast<I>(divisions_[d]);
      const I* const group = groups(static_cast<int64_t>(d)) + b;
      const uint32_t* const items = items_.data() + bound(first);
      const uint32_t* const last = items + group[1];
      for (const uint32_t* item = items + group[0]; item != last; ++item) {
        const I k = first + static_cast<I>(*item >> kHalf);
        Row& row = rows[*item & ((1u << kHalf) - 1)];
        const bool is_new = row.col != k;
        // Of a matrix that is not symmetric, what is too much stays within the memory.
        const I place = std::min<I>(row.place + is_new, static_cast<I>(full));
        row = {place, k};
        Cell& cell = cells[place];
        if constexpr (kSum) {
          cell = {k, (is_new ? 0 : cell.count) + 1};
        } else {
          cell.col = k;
        }
      }
    }
    I* const col = found_col_.data() + start;
    int64_t n = 0;
    bool fits = true;
    for (int64_t k = begin; k < end; ++k) {
      const Cell* const own = cells + (bound(k) - start);
      const int64_t count = cells + rows[k - begin].place + 1 - own;
      fits &= count <= bound(k + 1) - bound(k);
      counts_.data()[k] = static_cast<I>(count);
      if (!fits) continue;
      for (int64_t i = 0; i < count; ++i) col[n + i] = own[i].col;
      if constexpr (kSum) {
        T* const sum = found_sum_.data() + start;
        for (int64_t i = 0; i < count; ++i) sum[n + i] = static_cast<T>(own[i].count);
      }
      n += count;
    }
    if (!fits) symmetric_ = false;
  }

  template <typename O>
  O* allocate(GraphContract::Output output, int64_t count) const {
    return static_cast<O*>(c_.allocate(c_.context, output, count));
  }

  ContractedGraph write() const {
    I* const rowptr = allocate<I>(GraphContract::rowptr, rows_ + 1);
    rowptr[0] = 0;
    for (int64_t k = 0; k < rows_; ++k) rowptr[k + 1] = rowptr[k] + counts_.data()[k];
    const int64_t entries = rowptr[rows_], apart = loops_.data() ? rows_ : 0;
    I* const col = allocate<I>(GraphContract::col, entries);
    T* const sum = kSum ? allocate<T>(GraphContract::value, entries + apart) : nullptr;
    run_tasks(runtime_, buckets_, [&](int64_t b, int64_t) {
      const int64_t begin = b << bits_, end = std::min(rows_, (b + 1) << bits_);
      const I to = rowptr[begin], n = rowptr[end] - to;
      std::copy_n(found_col_.data() + bound(begin), n, col + to);
      if (kSum) std::copy_n(found_sum_.data() + bound(begin), n, sum + to);
    });
    if (sum) std::copy_n(loops_.data(), apart, sum + entries);
    return {entries, kept_ > entries};
  }

  const GraphContract& c_;
  const Runtime& runtime_;
  MemberRows<I> members_;
  int64_t rows_;
  int bits_;  // of the number of a row in its bucket
  int64_t buckets_;
  std::vector<int64_t> divisions_;
  Buffer<int64_t> bounds_;
  std::vector<I> groups_;
  Buffer<uint32_t> items_;
  Buffer<I> found_col_;
  Buffer<T> found_sum_;
  Buffer<I> counts_;
  Buffer<T> loops_;
  std::atomic<int64_t> kept_{0};
  std::atomic<bool> symmetric_{true};
};

}  // namespace hierpool::cpu
