// Products with the rows of a sparse matrix, whose hub rows are shared by all threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/buffer.h"
#include "cpu/row_kernels.h"
#include "cpu/tasks.h"
#include "hierpool/csr.h"

namespace hierpool::cpu {

// Entries of one task. A row with more of them is a hub: it is cut into parts of so many.
constexpr int64_t kTaskEntries = int64_t{1} << 15;

// A sparse matrix [rows, columns] times dense rows of n elements.
template <typename T>
class CsrProduct {
 public:
  CsrProduct(const Csr& a, const RowKernels<T>& kernels) : a_(a), kernels_(kernels) {}

  int64_t row_begin(int64_t i) const {
    return a_.wide_index ? static_cast<const int64_t*>(a_.rowptr)[i]
                         : static_cast<const int32_t*>(a_.rowptr)[i];
  }
  int64_t entries(int64_t begin, int64_t end) const { return row_begin(end) - row_begin(begin); }
  bool is_hub(int64_t i) const { return entries(i, i + 1) > kTaskEntries; }
  int64_t column(int64_t e) const {
    return a_.wide_index ? static_cast<const int64_t*>(a_.col)[e] : static_cast<const int32_t*>(a_.col)[e];
  }
  const T* values() const { return static_cast<const T*>(a_.value); }

  // Where the rows [begin, end) have to be cut so that no part has more than `max_rows` rows or, of several, more
  // than kTaskEntries entries: their first rows, and `end`. A hub row is a part of its own.
  std::vector<int64_t> cut(int64_t begin, int64_t end, int64_t max_rows) const {
    std::vector<int64_t> bounds{begin};
    while (bounds.back() < end) {
      const int64_t first = bounds.back();
      int64_t last = first + 1;
      const int64_t limit = std::min(end, first + max_rows);
      while (last < limit && entries(first, last + 1) <= kTaskEntries) ++last;
      bounds.push_back(last);
    }
    return bounds;
  }

  // The products of hub rows, by ascending row.
  struct Hubs {
    std::vector<int64_t> rows;
    Buffer<T> products;  // [rows, n]
  };

  // sum_e value[e] rows[col[e]] for the hubs among the rows [begin, end), n elements each, with all threads.
  Hubs multiply_hubs(const Runtime& runtime, int64_t n, const T* rows, int64_t ld, int64_t begin,
                     int64_t end) const {
    Hubs hubs;
    std::vector<int64_t> first_part{0}, part_of;
    for (int64_t i = begin; i < end; ++i) {
      if (!is_hub(i)) continue;
      const int64_t parts = (entries(i, i + 1) + kTaskEntries - 1) / kTaskEntries;
      part_of.insert(part_of.end(), static_cast<size_t>(parts), static_cast<int64_t>(hubs.rows.size()));
      first_part.push_back(static_cast<int64_t>(part_of.size()));
      hubs.rows.push_back(i);
    }
    if (hubs.rows.empty()) return hubs;
    const Buffer<T> partial(static_cast<int64_t>(part_of.size()) * n);
    run_tasks(runtime, static_cast<int64_t>(part_of.size()), [&](int64_t i, int64_t) {
      const auto hub = static_cast<size_t>(part_of[static_cast<size_t>(i)]);
      const int64_t first = row_begin(hubs.rows[hub]) + (i - first_part[hub]) * kTaskEntries;
      const int64_t last = std::min(first + kTaskEntries, row_begin(hubs.rows[hub] + 1));
      spmm_part(partial.data() + i * n, n, rows, ld, first, last);
    });
    hubs.products = Buffer<T>(static_cast<int64_t>(hubs.rows.size()) * n);
    run_tasks(runtime, static_cast<int64_t>(hubs.rows.size()), [&](int64_t h, int64_t) {
      const auto hub = static_cast<size_t>(h);
      T* out = hubs.products.data() + h * n;
      std::copy_n(partial.data() + first_part[hub] * n, n, out);
      for (int64_t i = first_part[hub] + 1; i < first_part[hub + 1]; ++i) {
        kernels_.axpy(out, T(1), partial.data() + i * n, n);
      }
    });
    return hubs;
  }

  // out[i - begin] = sum_e value[e] rows[col[e]] for the rows [begin, end), n elements each. `hubs` holds those among
  // them.
  void multiply(T* out, int64_t ld_out, int64_t n, const T* rows, int64_t ld, int64_t begin, int64_t end,
                const Hubs& hubs) const {
    auto hub = std::lower_bound(hubs.rows.begin(), hubs.rows.end(), begin);
    for (;; ++hub) {
      const int64_t last = hub == hubs.rows.end() ? end : std::min(*hub, end);
      if (last > begin) spmm(out, ld_out, n, rows, ld, begin, last);
      if (last == end) return;
      out += (last - begin) * ld_out;
      std::copy_n(hubs.products.data() + (hub - hubs.rows.begin()) * n, n, out);
      out += ld_out;
      begin = last + 1;
    }
  }

  // out[e] = <left[i - begin], rows[col[e]]> for the entries e of the rows i of [begin, end).
  void sampled(T* out, int64_t n, const T* left, int64_t ld_left, const T* rows, int64_t ld, int64_t begin,
               int64_t end) const {
    if (a_.wide_index) {
      kernels_.sampled64(out, n, left, ld_left, rows, ld, part<int64_t>(begin, end));
    } else {
      kernels_.sampled32(out, n, left, ld_left, rows, ld, part<int32_t>(begin, end));
    }
  }

  // The same for the entries [first, last) of one row, whose row on the left is `left`.
  void sampled_part(T* out, int64_t n, const T* left, const T* rows, int64_t ld, int64_t first,
                    int64_t last) const {
    if (a_.wide_index) {
      const int64_t bounds[2] = {first, last};
      kernels_.sampled64(out, n, left, n, rows, ld,
                         {1, bounds, static_cast<const int64_t*>(a_.col), nullptr});
    } else {
      const int32_t bounds[2] = {static_cast<int32_t>(first), static_cast<int32_t>(last)};
      kernels_.sampled32(out, n, left, n, rows, ld,
                         {1, bounds, static_cast<const int32_t*>(a_.col), nullptr});
    }
  }

 private:
  template <typename I>
  SparseRows<T, I> part(int64_t begin, int64_t end) const {
    return {end - begin, static_cast<const I*>(a_.rowptr) + begin, static_cast<const I*>(a_.col), values()};
  }

  void spmm(T* out, int64_t ld_out, int64_t n, const T* rows, int64_t ld, int64_t begin, int64_t end) const {
    if (a_.wide_index) {
      kernels_.spmm64(out, ld_out, n, rows, ld, part<int64_t>(begin, end));
    } else {
      kernels_.spmm32(out, ld_out, n, rows, ld, part<int32_t>(begin, end));
    }
  }

  // The entries [first, last) of one row.
  void spmm_part(T* out, int64_t n, const T* rows, int64_t ld, int64_t first, int64_t last) const {
    if (a_.wide_index) {
      const int64_t bounds[2] = {first, last};
      kernels_.spmm64(out, n, n, rows, ld, {1, bounds, static_cast<const int64_t*>(a_.col), values()});
    } else {
      const int32_t bounds[2] = {static_cast<int32_t>(first), static_cast<int32_t>(last)};
      kernels_.spmm32(out, n, n, rows, ld, {1, bounds, static_cast<const int32_t*>(a_.col), values()});
    }
  }

  Csr a_;
  const RowKernels<T>& kernels_;
};

}  // namespace hierpool::cpu
