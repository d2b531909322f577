// A set of columns, whose elements come out in ascending order without being sorted.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

namespace hierpool::cpu {

// Columns are listed as they come, if they are not marked. A bit for each, and a bit for each word of 64 of these, put
// them in order.
class ColumnSet {
 public:
  explicit ColumnSet(int64_t columns)
      : marks_(static_cast<size_t>(columns)),
        words_(static_cast<size_t>(columns / 64 + 1)),
        blocks_(words_.size() / 64 + 1) {}

  // Empties the set, and makes room for `most` columns.
  void clear(int64_t most) {
    count_ = 0;
    if (++mark_ == 0) std::fill(marks_.begin(), marks_.end(), uint8_t{0}), mark_ = 1;
    most = std::min(most, static_cast<int64_t>(marks_.size())) + 1;
    if (static_cast<int64_t>(list_.size()) < most) list_.resize(static_cast<size_t>(2 * most));
  }

  template <typename I>
  void add(const I* columns, int64_t count) {
    uint8_t* marks = marks_.data();
    int64_t* list = list_.data();
    int64_t found = count_;
    for (int64_t n = 0; n < count; ++n) {  // without a branch that cannot be predicted
      const int64_t column = columns[n];
      list[found] = column;
      found += marks[column] != mark_;
      marks[column] = mark_;
    }
    count_ = found;
  }
  void remove(int64_t column) {
    const auto end = list_.begin() + count_;
    const auto at = std::find(list_.begin(), end, column);
    if (at != end) *at = list_[static_cast<size_t>(--count_)];
  }

  int64_t count() const { return count_; }

  // Writes the columns.
  template <typename I>
  void write(I* out) {
    int64_t low = static_cast<int64_t>(blocks_.size()), high = -1;
    for (int64_t n = 0; n < count_; ++n) {
      const int64_t column = list_[static_cast<size_t>(n)], block = column >> 12;
      words_[static_cast<size_t>(column >> 6)] |= uint64_t{1} << (column & 63);
      blocks_[static_cast<size_t>(block)] |= uint64_t{1} << (column >> 6 & 63);
      low = std::min(low, block), high = std::max(high, block);
    }
    for (int64_t b = low; b <= high; ++b) {
      for (uint64_t& left = blocks_[static_cast<size_t>(b)]; left != 0; left &= left - 1) {
        const int64_t w = 64 * b + std::countr_zero(left);
        uint64_t& word = words_[static_cast<size_t>(w)];
        for (; word != 0; word &= word - 1) *out++ = static_cast<I>(64 * w + std::countr_zero(word));
      }
    }
  }

 private:
  std::vector<uint8_t> marks_;  // of each column: `mark_` if it is in the set
  std::vector<int64_t> list_;
  std::vector<uint64_t> words_, blocks_;
  uint8_t mark_ = 0;
  int64_t count_ = 0;
};

}  // namespace hierpool::cpu
