// Sparse rows and dense rows beside them, of all shapes that take a path of their own. Arrays have exactly the size of the
// contract, so that the address sanitizer sees every access beyond them.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "cpu/row_kernels.h"

using hierpool::cpu::SparseRows;

// Rows with no entry, one, and more than are asked for ahead; none at all.
inline const std::vector<std::vector<int64_t>> kCounts{
    {}, {0}, {0, 0, 0}, {1}, {0, 3, 0, 17, 1, 0}, {16}, {40, 0, 15}, {2, 2, 2, 2, 2}};

template <typename T, typename I>
struct SparseInputs {
  int64_t rows, n, ld;
  std::vector<I> rowptr, col;
  std::vector<T> value, dense, left;

  // The entries before `skipped` belong to rows that are not asked for.
  SparseInputs(const std::vector<int64_t>& counts, int64_t n, int64_t slack, int64_t skipped, uint32_t seed)
      : rows(static_cast<int64_t>(counts.size())), n(n), ld(n + slack), rowptr{static_cast<I>(skipped)} {
    constexpr int64_t kColumns = 7;
    std::mt19937 random(seed);
    std::uniform_real_distribution<double> unit(-1.0, 1.0);
    for (int64_t count : counts) rowptr.push_back(static_cast<I>(rowptr.back() + count));
    for (int64_t e = 0; e < rowptr.back(); ++e) {
      // The last column is used, and used last: what is asked for ahead of it must end there.
      col.push_back(static_cast<I>(e + 1 == rowptr.back() ? kColumns - 1 : random() % kColumns));
      value.push_back(static_cast<T>(unit(random)));
    }
    // The last row ends with its n elements, without the slack.
    dense.resize((kColumns - 1) * ld + n);
    left.resize(rows == 0 ? 0 : (rows - 1) * ld + n);
    for (T& x : dense) x = static_cast<T>(unit(random));
    for (T& x : left) x = static_cast<T>(unit(random));
  }

  SparseRows<T, I> sparse(bool weighted) const {
    return {rows, rowptr.data(), col.data(), weighted ? value.data() : nullptr};
  }
  int64_t first() const { return rowptr.front(); }
  int64_t last() const { return rowptr.back(); }
};
