// The total variation over the edges of sparse graphs, and what it consists of.
#include "cpu/csr_rows.h"
#include "cpu/isa.h"
#include "hierpool/total_variation.h"

namespace hierpool::cpu {
namespace {

constexpr int64_t kMaxRows = 4096;  // of one task

// Differences of the rows at the ends of entries.
template <typename T>
class CsrDifferences : public CsrRows<T> {
 public:
  using typename CsrRows<T>::Hubs;
  using typename CsrRows<T>::Part;

  CsrDifferences(const SparseVariation& args, const Csr& a)
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

  // Of the rows [begin, end), which are one hub or none is, the first of which is written to `out`.
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

  template <typename Narrow, typename Wide, typename... Arguments>
  auto on_part(Narrow narrow, Wide wide, const Part& part, Arguments... arguments) const {
    if (this->is_hub(part.row))
      return this->on_entries(narrow, wide, part.entry, part.last_entry, arguments...);
    return this->on_rows(narrow, wide, part.row, part.last_row, arguments...);
  }

  int64_t n_;
  const T* x_;
  int64_t ld_;
};

// Tasks, none of which belongs to two graphs.
template <typename Task>
struct Tasks {
  std::vector<Task> tasks;
  std::vector<int64_t> graph_of;

  template <typename Add>
  Tasks(const SparseVariation& args, const Add& add) {
    for (int64_t b = 0; b < args.graphs; ++b) {
      add(tasks, args.ptr[b], args.ptr[b + 1]);
      graph_of.resize(tasks.size(), b);
    }
  }

  // Calls work(task, number, graph).
  template <typename Work>
  void run(const Runtime& runtime, const Work& work) const {
    run_tasks(runtime, static_cast<int64_t>(tasks.size()), [&](int64_t i, int64_t) {
      const auto number = static_cast<size_t>(i);
      work(tasks[number], number, graph_of[number]);
    });
  }
};

template <typename T>
Tasks<typename CsrDifferences<T>::Part> parts_of(const SparseVariation& args, const CsrDifferences<T>& a) {
  return {args, [&](auto& parts, int64_t begin, int64_t end) { a.add_parts(parts, begin, end, kMaxRows); }};
}

template <typename T>
T scale_of(const void* scale, int64_t graph) {
  return scale ? static_cast<const T*>(scale)[graph] : T(1);
}

template <typename T>
void total_variation(const SparseVariation& args, T* variation, T* entries, const Runtime& runtime) {
  const CsrDifferences<T> a(args, args.a);
  const auto parts = parts_of(args, a);
  std::vector<VariationSum> sums(parts.tasks.size());
  parts.run(runtime, [&](const auto& part, size_t number, int64_t) { sums[number] = a.variation(part); });
  size_t number = 0;
  for (int64_t b = 0; b < args.graphs; ++b) {
    VariationSum total{0, 0};
    for (; number < sums.size() && parts.graph_of[number] == b; ++number) {
      total.sum += sums[number].sum;
      total.entries += sums[number].entries;
    }
    variation[b] = static_cast<T>(total.sum);
    entries[b] = static_cast<T>(total.entries);
  }
}

template <typename T>
void edge_distances(const SparseVariation& args, const void* scale, T* out, const Runtime& runtime) {
  const CsrDifferences<T> a(args, args.a);
  parts_of(args, a).run(runtime, [&](const auto& part, size_t, int64_t graph) {
    a.distances(out, scale_of<T>(scale, graph), part);
  });
}

struct RowRange {
  int64_t begin, end;
};

// One matrix after the other; the last one also scales.
template <typename T>
void signed_sums(const SparseVariation& args, const Csr& also, const void* scale, T* out,
                 const Runtime& runtime) {
  const bool both = also.rowptr != nullptr;
  const auto add = [&](const Csr& matrix, bool last) {
    const CsrDifferences<T> a(args, matrix);
    const auto hubs = a.hubs(matrix.rows, runtime);
    const Tasks<RowRange> tasks(args, [&](auto& ranges, int64_t begin, int64_t end) {
      const std::vector<int64_t> bounds = a.cut(begin, end, kMaxRows);
      for (size_t i = 0; i + 1 < bounds.size(); ++i) ranges.push_back({bounds[i], bounds[i + 1]});
    });
    tasks.run(runtime, [&](const RowRange& rows, size_t, int64_t graph) {
      a.signs(out + rows.begin * args.n, rows.begin, rows.end, hubs, last ? scale_of<T>(scale, graph) : T(1),
              both && last);
    });
  };
  add(args.a, !both);
  if (both) add(also, true);
}

}  // namespace

void total_variation(const SparseVariation& args, void* variation, void* entries, const Runtime& runtime) {
  if (args.wide) {
    total_variation(args, static_cast<double*>(variation), static_cast<double*>(entries), runtime);
  } else {
    total_variation(args, static_cast<float*>(variation), static_cast<float*>(entries), runtime);
  }
}

void edge_distances(const SparseVariation& args, const void* scale, void* out, const Runtime& runtime) {
  if (args.wide) {
    edge_distances(args, scale, static_cast<double*>(out), runtime);
  } else {
    edge_distances(args, scale, static_cast<float*>(out), runtime);
  }
}

void signed_sums(const SparseVariation& args, const Csr& also, const void* scale, void* out,
                 const Runtime& runtime) {
  if (args.wide) {
    signed_sums(args, also, scale, static_cast<double*>(out), runtime);
  } else {
    signed_sums(args, also, scale, static_cast<float*>(out), runtime);
  }
}

}  // namespace hierpool::cpu
