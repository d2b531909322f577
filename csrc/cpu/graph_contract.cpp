#include "hierpool/graph_contract.h"

#include <algorithm>
#include <atomic>
#include <numeric>
#include <vector>

#include "cpu/accumulation.h"
#include "cpu/buffer.h"
#include "cpu/contracted_row.h"
#include "cpu/mirror.h"
#include "cpu/tasks.h"

namespace hierpool::cpu {
namespace {

constexpr int64_t kTaskWork = int64_t{1} << 15;  // entries and rows of one task

template <typename I, typename T>
class Contraction {
 public:
  Contraction(const GraphContract& c, const Runtime& runtime)
      : c_(c),
        runtime_(runtime),
        rowptr_(static_cast<const I*>(c.graph.rowptr)),
        col_(static_cast<const I*>(c.graph.col)),
        value_(static_cast<const T*>(c.graph.value)),
        cluster_(static_cast<const I*>(c.cluster)),
        first_(static_cast<const I*>(c.members.first)),
        node_(static_cast<const I*>(c.members.node)),
        rows_(c.members.clusters),
        bound_(rows_ + 1) {}

  ContractedGraph run() {
    out_rowptr_ = allocate<I>(GraphContract::rowptr, rows_ + 1);
    out_slot_ = c_.want_slot ? allocate<I>(GraphContract::slot, rowptr_[c_.graph.rows]) : nullptr;
    if (out_slot_ && first_[rows_] < c_.graph.rows) drop_rows();
    bound_rows();
    scratch_col_ = Buffer<I>(bound_.data()[rows_]);
    if (c_.want_sum) scratch_sum_ = Buffer<T>(bound_.data()[rows_]);
    if (c_.want_sum && c_.loops == Loops::apart) scratch_loops_ = Buffer<T>(rows_);
    std::vector<ContractedRow<I, T>> scratch(static_cast<size_t>(std::max<int64_t>(runtime_.threads, 1)));
    each_task([&](int64_t begin, int64_t end, int64_t thread) {
      merge_rows(begin, end, scratch[static_cast<size_t>(thread)]);
    });
    out_rowptr_[0] = 0;
    std::partial_sum(out_rowptr_, out_rowptr_ + rows_ + 1, out_rowptr_);
    const int64_t entries = out_rowptr_[rows_];
    out_col_ = allocate<I>(GraphContract::col, entries);
    const int64_t sums = entries + (c_.loops == Loops::apart ? rows_ : 0);
    out_sum_ = c_.want_sum ? allocate<T>(GraphContract::value, sums) : nullptr;
    each_task([&](int64_t begin, int64_t end, int64_t) { compact(begin, end); });
    if (out_sum_ && c_.symmetric && rounded_) mirror_values(rows_, out_rowptr_, out_col_, out_sum_, runtime_);
    return {entries, kept_ > entries};
  }

 private:
  template <typename O>
  O* allocate(GraphContract::Output output, int64_t count) {
    return static_cast<O*>(c_.allocate(c_.context, output, count));
  }

  // task(begin, end, thread) for ranges of rows of about the same work.
  template <typename Task>
  void each_task(const Task& task) const {
    run_row_tasks(runtime_, rows_, kTaskWork, [&](int64_t k) { return bound_.data()[k] + k; }, task);
  }

  void drop_rows() {
    for (int64_t i = 0; i < c_.graph.rows; ++i) {
      if (cluster_[i] < 0) std::fill(out_slot_ + rowptr_[i], out_slot_ + rowptr_[i + 1], I(-1));
    }
  }

  // bound_[k]: as many entries as there may be at most before row k.
  void bound_rows() {
    constexpr int64_t kRows = 4096;
    int64_t* bound = bound_.data();
    run_tasks(runtime_, (rows_ + kRows - 1) / kRows, [&](int64_t t, int64_t) {
      for (int64_t k = t * kRows; k < std::min(rows_, (t + 1) * kRows); ++k) {
        bound[k] = degree(k);
      }
    });
    bound[rows_] = 0;
    std::exclusive_scan(bound, bound + rows_ + 1, bound, int64_t{0});
  }

  int64_t degree(int64_t k) const {
    int64_t sum = 0;
    for (I m = first_[k]; m < first_[k + 1]; ++m) {
      if (m + kAhead < first_[rows_]) __builtin_prefetch(rowptr_ + node_[m + kAhead]);
      sum += rowptr_[node_[m] + 1] - rowptr_[node_[m]];
    }
    return sum;
  }

  // Nodes of a cluster may be far apart in memory. GCC drops calls of a function that does nothing but prefetch.
  __attribute__((always_inline)) void prefetch(I m) const {
    if (m + 2 * kAhead >= first_[rows_]) return;
    __builtin_prefetch(rowptr_ + node_[m + 2 * kAhead]);
    const I next = rowptr_[node_[m + kAhead]];
    __builtin_prefetch(col_ + next);
    __builtin_prefetch(col_ + next + 16);
    if (value_ && c_.want_sum) __builtin_prefetch(value_ + next), __builtin_prefetch(value_ + next + 16);
  }

  void merge_rows(int64_t begin, int64_t end, ContractedRow<I, T>& row) {
    ExactSum exact;
    int64_t kept = 0;
    for (int64_t k = begin; k < end; ++k) {
      const int64_t first = bound_.data()[k];
      row.reserve(bound_.data()[k + 1] - first);
      gather(k, row);
      T* sum = c_.want_sum ? scratch_sum_.data() + first : nullptr;
      const int64_t n =
          row.merge(rows_, c_.injective, value_, scratch_col_.data() + first, sum, out_slot_, exact);
      out_rowptr_[k + 1] = static_cast<I>(n);
      kept += row.pushed();
    }
    kept_ += kept;
    if (exact.rounded()) rounded_ = true;
  }

  // The entries of row k that are kept; slots of the others are -1, those of loops apart -2.
  void gather(int64_t k, ContractedRow<I, T>& row) {
    const bool keep = c_.loops == Loops::keep, loops_apart = scratch_loops_.data() != nullptr;
    const I loop_slot = c_.loops == Loops::apart ? -2 : -1;
    double loops = 0;
    row.fill([&](const auto& push) {
      for (I m = first_[k]; m < first_[k + 1]; ++m) {
        prefetch(m);
        const int64_t i = node_[m], last = rowptr_[i + 1];
        for (int64_t e = rowptr_[i]; e < last; ++e) {
          const int64_t l = cluster_[col_[e]];
          const bool loop = (l == k) & !keep;
          push((l >= 0) & !loop, l, e);
          if (loops_apart && loop) loops += value_ ? static_cast<double>(value_[e]) : 1.0;
          if (out_slot_) out_slot_[e] = loop ? loop_slot : I(-1);
        }
      }
    });
    if (loops_apart) scratch_loops_.data()[k] = static_cast<T>(loops);
  }

  void compact(int64_t begin, int64_t end) {
    const int64_t entries = out_rowptr_[rows_];
    for (int64_t k = begin; k < end; ++k) {
      const int64_t first = bound_.data()[k], place = out_rowptr_[k], n = out_rowptr_[k + 1] - place;
      std::copy_n(scratch_col_.data() + first, n, out_col_ + place);
      if (out_sum_) std::copy_n(scratch_sum_.data() + first, n, out_sum_ + place);
      if (out_sum_ && c_.loops == Loops::apart) out_sum_[entries + k] = scratch_loops_.data()[k];
      if (!out_slot_) continue;
      for (I m = first_[k]; m < first_[k + 1]; ++m) {
        for (int64_t e = rowptr_[node_[m]]; e < rowptr_[node_[m] + 1]; ++e) {
          I& slot = out_slot_[e];
          if (slot != -1) slot = static_cast<I>(slot == -2 ? entries + k : slot + place);
        }
      }
    }
  }

  static constexpr I kAhead = 8;

  const GraphContract& c_;
  const Runtime& runtime_;
  const I* rowptr_;
  const I* col_;
  const T* value_;
  const I* cluster_;
  const I* first_;
  const I* node_;
  int64_t rows_;
  Buffer<int64_t> bound_;
  Buffer<I> scratch_col_;  // row k from bound_[k] on
  Buffer<T> scratch_sum_;
  Buffer<T> scratch_loops_;
  std::atomic<int64_t> kept_{0};
  std::atomic<bool> rounded_{false};
  I* out_rowptr_ = nullptr;
  I* out_col_ = nullptr;
  T* out_sum_ = nullptr;
  I* out_slot_ = nullptr;
};

}  // namespace

ContractedGraph graph_contract(const GraphContract& c, const Runtime& runtime) {
  ContractedGraph out{};
  with_accumulation_type(c.double_value, [&]<typename T>(T) {
    out = c.graph.int64_index ? Contraction<int64_t, T>(c, runtime).run()
                              : Contraction<int32_t, T>(c, runtime).run();
  });
  return out;
}

}  // namespace hierpool::cpu
