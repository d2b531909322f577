// Rows of a sparse matrix, whose hub rows are shared by all threads, and products with them.
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

template <typename T>
class CsrRows {
 public:
  CsrRows(const Csr& a, const RowKernels<T>& kernels) : a_(a), kernels_(kernels) {}

  int64_t row_begin(int64_t i) const {
    return a_.int64_index ? static_cast<const int64_t*>(a_.rowptr)[i]
                          : static_cast<const int32_t*>(a_.rowptr)[i];
  }
  int64_t entries(int64_t begin, int64_t end) const { return row_begin(end) - row_begin(begin); }
  bool is_hub(int64_t i) const { return entries(i, i + 1) > kTaskEntries; }
  int64_t column(int64_t e) const {
    return a_.int64_index ? static_cast<const int64_t*>(a_.col)[e] : static_cast<const int32_t*>(a_.col)[e];
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

  // Some rows, or some of the entries of one.
  struct Part {
    int64_t row, last_row;
    int64_t entry, last_entry;
  };

  // The parts with entries that the rows [begin, end) are cut into, those of hub rows among them.
  void add_parts(std::vector<Part>& parts, int64_t begin, int64_t end, int64_t max_rows) const {
    const std::vector<int64_t> bounds = cut(begin, end, max_rows);
    for (size_t i = 0; i + 1 < bounds.size(); ++i) {
      const int64_t first = row_begin(bounds[i]), last = row_begin(bounds[i + 1]);
      const int64_t step = is_hub(bounds[i]) ? kTaskEntries : last - first;
      for (int64_t e = first; e < last; e += step) {
        parts.push_back({bounds[i], bounds[i + 1], e, std::min(last, e + step)});
      }
    }
  }

  // Sums of hub rows, by ascending row.
  struct Hubs {
    std::vector<int64_t> rows;
    Buffer<T> sums;  // [rows, n]
  };

  // Those of the hubs among the rows [begin, end), n elements each, with all threads; sum(out, row, first, last)
  // writes that of the entries [first, last) of a row.
  template <typename Sum>
  Hubs sum_hubs(const Runtime& runtime, int64_t n, int64_t begin, int64_t end, const Sum& sum) const {
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
      const int64_t row = hubs.rows[hub];
      const int64_t first = row_begin(row) + (i - first_part[hub]) * kTaskEntries;
      sum(partial.data() + i * n, row, first, std::min(first + kTaskEntries, row_begin(row + 1)));
    });
    hubs.sums = Buffer<T>(static_cast<int64_t>(hubs.rows.size()) * n);
    run_tasks(runtime, static_cast<int64_t>(hubs.rows.size()), [&](int64_t h, int64_t) {
      const auto hub = static_cast<size_t>(h);
      T* out = hubs.sums.data() + h * n;
      std::copy_n(partial.data() + first_part[hub] * n, n, out);
      for (int64_t i = first_part[hub] + 1; i < first_part[hub + 1]; ++i) {
        kernels_.axpy(out, T(1), partial.data() + i * n, n);
      }
    });
    return hubs;
  }

 protected:
  // A row operation, for either width of indices, on the rows [begin, end).
  template <typename For32, typename For64, typename... Arguments>
  auto on_rows(For32 for_int32, For64 for_int64, int64_t begin, int64_t end, Arguments... arguments) const {
    if (a_.int64_index) return for_int64(arguments..., part<int64_t>(begin, end));
    return for_int32(arguments..., part<int32_t>(begin, end));
  }

  // The same on the entries [first, last) of one row.
  template <typename For32, typename For64, typename... Arguments>
  auto on_entries(For32 for_int32, For64 for_int64, int64_t first, int64_t last,
                  Arguments... arguments) const {
    if (a_.int64_index) {
      const int64_t bounds[2] = {first, last};
      return for_int64(arguments...,
                       SparseRows<T, int64_t>{1, bounds, static_cast<const int64_t*>(a_.col), values()});
    }
    const int32_t bounds[2] = {static_cast<int32_t>(first), static_cast<int32_t>(last)};
    return for_int32(arguments...,
                     SparseRows<T, int32_t>{1, bounds, static_cast<const int32_t*>(a_.col), values()});
  }

  const RowKernels<T>& kernels() const { return kernels_; }

 private:
  template <typename I>
  SparseRows<T, I> part(int64_t begin, int64_t end) const {
    return {end - begin, static_cast<const I*>(a_.rowptr) + begin, static_cast<const I*>(a_.col), values()};
  }

  Csr a_;
  const RowKernels<T>& kernels_;
};

// A sparse matrix [rows, columns] times dense rows of n elements.
template <typename T>
class CsrProduct : public CsrRows<T> {
 public:
  using typename CsrRows<T>::Hubs;
  using CsrRows<T>::CsrRows;

  // sum_e value[e] rows[col[e]] for the hubs among the rows [begin, end), n elements each, with all threads.
  Hubs multiply_hubs(const Runtime& runtime, int64_t n, const T* rows, int64_t ld, int64_t begin,
                     int64_t end) const {
    const RowKernels<T>& k = this->kernels();
    return this->sum_hubs(runtime, n, begin, end, [&](T* out, int64_t, int64_t first, int64_t last) {
      this->on_entries(k.spmm32, k.spmm64, first, last, out, n, n, rows, ld);
    });
  }

  // out[i - begin] = sum_e value[e] rows[col[e]] for the rows [begin, end), n elements each. `hubs` holds those among
  // them.
  void multiply(T* out, int64_t ld_out, int64_t n, const T* rows, int64_t ld, int64_t begin, int64_t end,
                const Hubs& hubs) const {
    const RowKernels<T>& k = this->kernels();
    auto hub = std::lower_bound(hubs.rows.begin(), hubs.rows.end(), begin);
    for (;; ++hub) {
      const int64_t last = hub == hubs.rows.end() ? end : std::min(*hub, end);
      if (last > begin) this->on_rows(k.spmm32, k.spmm64, begin, last, out, ld_out, n, rows, ld);
      if (last == end) return;
      out += (last - begin) * ld_out;
      std::copy_n(hubs.sums.data() + (hub - hubs.rows.begin()) * n, n, out);
      out += ld_out;
      begin = last + 1;
    }
  }

  // out[e] = <left[i - begin], rows[col[e]]> for the entries e of the rows i of [begin, end).
  void sampled(T* out, int64_t n, const T* left, int64_t ld_left, const T* rows, int64_t ld, int64_t begin,
               int64_t end) const {
    const RowKernels<T>& k = this->kernels();
    this->on_rows(k.sampled32, k.sampled64, begin, end, out, n, left, ld_left, rows, ld);
  }

  // The same for the entries [first, last) of one row, whose row on the left is `left`.
  void sampled_part(T* out, int64_t n, const T* left, const T* rows, int64_t ld, int64_t first,
                    int64_t last) const {
    const RowKernels<T>& k = this->kernels();
    this->on_entries(k.sampled32, k.sampled64, first, last, out, n, left, n, rows, ld);
  }
};

}  // namespace hierpool::cpu
