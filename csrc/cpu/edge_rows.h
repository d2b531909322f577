// Differences of the rows at the ends of the entries of a sparse matrix, and tasks within one graph.
#pragma once

#include <algorithm>
#include <vector>

#include "cpu/csr_rows.h"
#include "cpu/isa.h"
#include "hierpool/edge_distances.h"

namespace hierpool::cpu {

constexpr int64_t kEdgeTaskRows = 4096;  // at most, of one task

template <typename T>
class EdgeDifferences : public CsrRows<T> {
 public:
  using typename CsrRows<T>::Hubs;
  using typename CsrRows<T>::Part;

  EdgeDifferences(const EdgeRows& args, const Csr& a)
      : CsrRows<T>(a, row_kernels<T>(isa_in_force())),
        n_(args.n),
        x_(static_cast<const T*>(args.x)),
        ld_(args.x_stride) {}

  VariationSum variation(const Part& part) const {
    const RowKernels<T>& k = this->kernels();
    return on_part(k.variation32, k.variation64, part, n_, row(part.row), ld_, x_, ld_);
  }

  void distances(T* out, T scale, const Part& part) const {
    const RowKernels<T>& k = this->kernels();
    on_part(k.distances32, k.distances64, part, out, n_, row(part.row), ld_, x_, ld_, scale);
  }

  Hubs hubs(int64_t rows, const Runtime& runtime) const {
    const RowKernels<T>& k = this->kernels();
    return this->sum_hubs(runtime, n_, 0, rows, [&](T* out, int64_t i, int64_t first, int64_t last) {
      this->on_entries(k.signs32, k.signs64, first, last, out, n_, n_, row(i), ld_, x_, ld_, T(1), false);
    });
  }

  // Sums of signs of the rows [begin, end), which are one hub or contain none; row `begin` goes to `out`.
  void signs(T* out, int64_t begin, int64_t end, const Hubs& hubs, T scale, bool accumulate) const {
    const RowKernels<T>& k = this->kernels();
    if (!this->is_hub(begin)) {
      this->on_rows(k.signs32, k.signs64, begin, end, out, n_, n_, row(begin), ld_, x_, ld_, scale,
                    accumulate);
      return;
    }
    const auto hub = std::lower_bound(hubs.rows.begin(), hubs.rows.end(), begin) - hubs.rows.begin();
    const T* sum = hubs.sums.data() + hub * n_;
    for (int64_t i = 0; i < n_; ++i) out[i] = scale * (accumulate ? out[i] + sum[i] : sum[i]);
  }

 private:
  const T* row(int64_t i) const { return x_ + i * ld_; }

  template <typename For32, typename For64, typename... Arguments>
  auto on_part(For32 for_int32, For64 for_int64, const Part& part, Arguments... arguments) const {
    if (this->is_hub(part.row))
      return this->on_entries(for_int32, for_int64, part.entry, part.last_entry, arguments...);
    return this->on_rows(for_int32, for_int64, part.row, part.last_row, arguments...);
  }

  int64_t n_;
  const T* x_;
  int64_t ld_;
};

// Tasks, none of which belongs to two graphs.
template <typename Task>
struct GraphTasks {
  std::vector<Task> tasks;
  std::vector<int64_t> graph_of;

  // Calls add(tasks, begin, end) for the rows [begin, end) of every graph.
  template <typename Add>
  GraphTasks(const EdgeRows& args, const Add& add) {
    for (int64_t b = 0; b < args.graphs; ++b) {
      add(tasks, args.ptr[b], args.ptr[b + 1]);
      graph_of.resize(tasks.size(), b);
    }
  }

  // Calls work(task, index of the task, graph).
  template <typename Work>
  void run(const Runtime& runtime, const Work& work) const {
    run_tasks(runtime, static_cast<int64_t>(tasks.size()), [&](int64_t i, int64_t) {
      const auto index = static_cast<size_t>(i);
      work(tasks[index], index, graph_of[index]);
    });
  }
};

template <typename T>
GraphTasks<typename EdgeDifferences<T>::Part> parts_of(const EdgeRows& args, const EdgeDifferences<T>& a) {
  return {args,
          [&](auto& parts, int64_t begin, int64_t end) { a.add_parts(parts, begin, end, kEdgeTaskRows); }};
}

}  // namespace hierpool::cpu
