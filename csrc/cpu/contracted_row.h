// One row of a contracted matrix: entries in any order of columns become columns that ascend.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "cpu/buffer.h"
#include "cpu/exact_sum.h"
#include "cpu/ranks.h"

namespace hierpool::cpu {

// What is summed for a column: nothing, ones, values, or values whose sums may be rounded.
enum class Terms { none, ones, values, checked };

// The memory serves all rows of a thread.
template <typename I, typename T>
class ContractedRow {
 public:
  // Makes room for pushing `n` entries.
  void reserve(int64_t n) {
    if (n < capacity_) return;
    capacity_ = std::max(n + 1, 2 * capacity_);
    keys_ = Buffer<int32_t>(capacity_ + kPadding);
    entries_ = Buffer<I>(capacity_);
  }
  // Replaces the entries by those that `each` pushes: each(push) with push(kept, column, entry), which adds an entry if
  // it is kept. No branch: columns are read from places all over memory, and would be waited for.
  template <typename Each>
  void fill(const Each& each) {
    int32_t* const keys = keys_.data();
    I* const entries = entries_.data();
    int64_t count = 0;
    each([&](bool kept, int64_t column, int64_t entry) {
      keys[count] = key(column);
      entries[count] = static_cast<I>(entry);
      count += kept;
    });
    count_ = count;
  }
  int64_t pushed() const { return count_; }

  // Writes the columns and, unless null, their sums of `terms` in the order of the entries, and for each entry `base`
  // plus its place in the row. Returns the number of columns.
  int64_t merge(int64_t columns, bool distinct, Terms terms, const T* value, I* col, T* sum, I* slot,
                int64_t base, ExactSum& exact) {
    if (count_ <= kRanked) {
      switch (terms) {
        case Terms::none: return merge_ranked<Terms::none>(value, col, sum, slot, base, exact);
        case Terms::ones: return merge_ranked<Terms::ones>(value, col, sum, slot, base, exact);
        case Terms::values: return merge_ranked<Terms::values>(value, col, sum, slot, base, exact);
        case Terms::checked: return merge_ranked<Terms::checked>(value, col, sum, slot, base, exact);
      }
    }
    if (distinct) return write_sorted(value, col, sum, slot, base);
    return merge_marked(columns, value, col, sum, slot, base, exact);
  }

 private:
  static constexpr int64_t kRanked = 64;  // bits of the set of ranks
  static constexpr int64_t kPadding = kRankPadding;

  // Columns are below 2^32. Signed keys, as vectors compare these.
  static int32_t key(int64_t column) {
    return static_cast<int32_t>(static_cast<uint32_t>(column) ^ 0x80000000u);
  }
  int64_t column(int64_t i) const { return static_cast<uint32_t>(keys_.data()[i]) ^ 0x80000000u; }
  static double value_of(const T* value, int64_t entry) {
    return value ? static_cast<double>(value[entry]) : 1.0;
  }

  // Equal columns have equal ranks, so the ranks that occur number the columns. Sorting would mispredict its branches.
  template <Terms kTerms>
  int64_t merge_ranked(const T* value, I* col, T* sum, I* slot, int64_t base, ExactSum& exact) {
    alignas(16) int32_t ranks[kRanked + kPadding], places[kRanked];
    rank_keys(keys_.data(), count_, ranks);
    uint64_t seen = 0;
    for (int64_t i = 0; i < count_; ++i) seen |= uint64_t{1} << ranks[i];
    int32_t n = 0;
    for (uint64_t bits = seen; bits; bits &= bits - 1) places[std::countr_zero(bits)] = n++;
    const I* entries = entries_.data();
    std::conditional_t<kTerms == Terms::ones, int32_t, double> sums[kRanked];
    if (kTerms != Terms::none) std::fill_n(sums, n, 0);
    for (int64_t i = 0; i < count_; ++i) {
      const int64_t place = places[ranks[i]];
      col[place] = static_cast<I>(column(i));
      if (slot) slot[entries[i]] = static_cast<I>(base + place);
      if constexpr (kTerms == Terms::ones) sums[place] += 1;
      if constexpr (kTerms == Terms::values) sums[place] += static_cast<double>(value[entries[i]]);
      if constexpr (kTerms == Terms::checked)
        sums[place] = exact.add(sums[place], static_cast<double>(value[entries[i]]));
    }
    if (kTerms != Terms::none)
      std::transform(sums, sums + n, sum, [](auto total) { return static_cast<T>(total); });
    return n;
  }

  int64_t write_sorted(const T* value, I* col, T* sum, I* slot, int64_t base) {
    sort_columns(count_, [](int64_t i) { return i; });
    for (int64_t i = 0; i < count_; ++i) {
      const int64_t from = number(i), entry = entries_.data()[from];
      col[i] = static_cast<I>(column(from));
      if (sum) sum[i] = static_cast<T>(value_of(value, entry));
      if (slot) slot[entry] = static_cast<I>(base + i);
    }
    return count_;
  }

  // A long row may have few columns, which are found by a mark and sorted alone.
  int64_t merge_marked(int64_t columns, const T* value, I* col, T* sum, I* slot, int64_t base,
                       ExactSum& exact) {
    if (mark_.empty()) mark_.assign(static_cast<size_t>(columns), 0);
    const Buffer<double> own_sums(count_);
    double* const sums = own_sums.data();
    const Buffer<I> first(count_);  // entry of the row that each column was found by
    int64_t n = 0;
    for (int64_t i = 0; i < count_; ++i) {
      const int64_t entry = entries_.data()[i];
      I& mark = mark_[static_cast<size_t>(column(i))];  // is what it says if the column there is this one
      if (mark >= n || keys_.data()[first.data()[mark]] != keys_.data()[i]) {
        mark = static_cast<I>(n);
        first.data()[n] = static_cast<I>(i);
        sums[n++] = 0;
      }
      if (sum) sums[mark] = exact.add(sums[mark], value_of(value, entry));
      if (slot) slot[entry] = mark;
    }
    sort_columns(n, [&](int64_t i) { return int64_t{first.data()[i]}; });
    for (int64_t i = 0; i < n; ++i) {
      col[i] = static_cast<I>(column(first.data()[number(i)]));
      if (sum) sum[i] = static_cast<T>(sums[number(i)]);
    }
    if (slot) replace_marks(n, slot, base);
    return n;
  }

  // wide_keys_: the columns of `n` entries of the row, ascending, each with its number from 0 to n - 1.
  template <typename Entry>
  void sort_columns(int64_t n, const Entry& entry) {
    wide_keys_ = Buffer<uint64_t>(n);
    uint64_t* keys = wide_keys_.data();
    for (int64_t i = 0; i < n; ++i) {
      keys[i] = static_cast<uint64_t>(column(entry(i))) << 32 | static_cast<uint64_t>(i);
    }
    std::sort(keys, keys + n);
  }
  int64_t number(int64_t i) const { return static_cast<int64_t>(wide_keys_.data()[i] & 0xffffffffu); }

  // Slots of the entries are numbers of columns as they were found, and become places of columns.
  void replace_marks(int64_t n, I* slot, int64_t base) {
    const Buffer<I> place(n);
    for (int64_t i = 0; i < n; ++i) place.data()[number(i)] = static_cast<I>(base + i);
    for (int64_t i = 0; i < count_; ++i) {
      I& own = slot[entries_.data()[i]];
      own = place.data()[own];
    }
  }

  int64_t capacity_ = 0, count_ = 0;
  Buffer<int32_t> keys_;  // of the columns
  Buffer<I> entries_;
  Buffer<uint64_t> wide_keys_;  // of long rows: [column | number]
  std::vector<I> mark_;         // of each column
};

}  // namespace hierpool::cpu
