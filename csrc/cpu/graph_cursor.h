// Which graph of a batch a row belongs to, for rows that are asked for in ascending order.
#pragma once

#include <algorithm>
#include <cstdint>

namespace hierpool::cpu {

class GraphCursor {
 public:
  // ptr[graphs + 1]: first row of each graph.
  GraphCursor(int64_t graphs, const int64_t* ptr) : end_(ptr + graphs + 1), next_(ptr) {}

  // Whether the column belongs to the graph of the row.
  bool holds(int64_t row, int64_t column) {
    if (row >= last_) {
      next_ = std::upper_bound(next_, end_, row);
      first_ = next_[-1];
      last_ = *next_;
    }
    return column >= first_ && column < last_;
  }

 private:
  const int64_t* end_;
  const int64_t* next_;  // first row of the graph after that of the row
  int64_t first_ = 0, last_ = 0;
};

}  // namespace hierpool::cpu
