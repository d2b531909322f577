#include "hierpool/graph_contract.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <numeric>
#include <type_traits>
#include <utility>
#include <vector>

#include "cpu/accumulation.h"
#include "cpu/buffer.h"
#include "cpu/contracted_row.h"
#include "cpu/member_rows.h"
#include "cpu/mirror.h"
#include "cpu/tasks.h"
#include "cpu/turned_graph.h"

namespace hierpool::cpu {
namespace {

constexpr int64_t kTaskWork = int64_t{1} << 15;  // entries and rows of one task

template <typename I, typename T>
class Contraction {
 public:
  Contraction(const GraphContract& c, const Runtime& runtime)
      : c_(c),
        runtime_(runtime),
        members_(c),
        rowptr_(static_cast<const I*>(c.graph.rowptr)),
        col_(static_cast<const I*>(c.graph.col)),
        value_(static_cast<const T*>(c.graph.value)),
        cluster_(static_cast<const I*>(c.cluster)),
        first_(static_cast<const I*>(c.members.first)),
        node_(static_cast<const I*>(c.members.node)),
        rows_(c.members.clusters),
        is_large_(c.graph.rows > kFew),
        terms_(!c.want_sum                        ? Terms::none
               : !value_                          ? Terms::ones
               : c.symmetric && !sums_are_exact() ? Terms::checked
                                                  : Terms::values) {}

  ContractedGraph run() {
    out_rowptr_ = allocate<I>(GraphContract::rowptr, rows_ + 1);
    out_slot_ = c_.want_slot ? allocate<I>(GraphContract::slot, rowptr_[c_.graph.rows]) : nullptr;
    if (out_slot_ && first_[rows_] < c_.graph.rows) drop_rows();
    divide();
    scratch_col_ = Buffer<I>(tasks_.back().scratch);
    if (c_.want_sum) scratch_sum_ = Buffer<T>(tasks_.back().scratch);
    if (c_.want_sum && c_.loops == Loops::apart) scratch_loops_ = Buffer<T>(rows_);
    const auto count = static_cast<int64_t>(tasks_.size()) - 1;
    std::vector<Scratch> scratch(
        static_cast<size_t>(std::clamp<int64_t>(count, 1, std::max<int64_t>(runtime_.threads, 1))));
    run_tasks(runtime_, count, [&](int64_t t, int64_t thread) {
      merge_rows(tasks_[static_cast<size_t>(t)], tasks_[static_cast<size_t>(t) + 1].row,
                 scratch[static_cast<size_t>(thread)]);
    });
    out_rowptr_[0] = 0;
    int64_t entries = 0;
    for (Task& task : tasks_) entries += std::exchange(task.entries, entries);
    out_col_ = allocate<I>(GraphContract::col, entries);
    const int64_t sums = entries + (c_.loops == Loops::apart ? rows_ : 0);
    out_sum_ = c_.want_sum ? allocate<T>(GraphContract::value, sums) : nullptr;
    run_tasks(runtime_, count, [&](int64_t t, int64_t) {
      compact(tasks_[static_cast<size_t>(t)], tasks_[static_cast<size_t>(t) + 1], entries);
    });
    if (out_sum_ && c_.symmetric && rounded_) mirror_values(rows_, out_rowptr_, out_col_, out_sum_, runtime_);
    return {entries, kept_ > entries};
  }

 private:
  template <typename O>
  O* allocate(GraphContract::Output output, int64_t count) {
    return static_cast<O*>(c_.allocate(c_.context, output, count));
  }

  // Whether sums of values are the same in any order, as those of a few floats of like size are in double.
  bool sums_are_exact() const {
    if constexpr (std::is_same_v<T, double>) return false;
    const int64_t entries = rowptr_[c_.graph.rows];
    if (entries > kFewEntries) return false;  // the values would be read from memory once more
    constexpr int32_t kExponent = 0xff;
    const int32_t spare = 53 - 24 - static_cast<int32_t>(std::bit_width(static_cast<uint64_t>(entries)));
    int32_t least = kExponent, most = 0;  // signed, as vectors compare these
    for (int64_t e = 0; e < entries; ++e) {
      const auto bits = std::bit_cast<uint32_t>(static_cast<float>(value_[e])) << 1;
      const auto exponent = static_cast<int32_t>(bits >> 24);
      most = std::max(most, exponent);
      least = std::min(least, bits ? exponent : kExponent);
    }
    return most < kExponent && (most == 0 || (least > 0 && most - least <= spare));
  }

  // Rows that one thread merges, and writes one after the other.
  struct Task {
    int64_t row;          // the first of them
    int64_t scratch;      // first place for their entries
    int64_t entries = 0;  // their number, then that of the entries before them
  };

  static constexpr int64_t kNear = 64 * 64 - 1;  // a bit for each bit of a word, and one for no column

  // Of a thread, on cache lines of its own: some of it is written for every row.
  struct alignas(128) Scratch {
    ContractedRow<I, T> row;
    uint64_t near[kNear / 64 + 1] = {};  // bits and sums of near columns: 0 between rows
    std::vector<double> sums;
    std::vector<I> places;
    ExactSum exact;
    int64_t kept;  // entries of the rows of a task that are not dropped

    void reserve(int64_t width) {
      if (static_cast<int64_t>(sums.size()) > width) return;
      sums.resize(static_cast<size_t>(width) + 1), places.resize(static_cast<size_t>(width) + 1);
    }
  };

  // tasks_: ranges of rows of about the same work, and the end of the last one.
  void divide() {
    const int64_t entries = rowptr_[c_.graph.rows];
    if (runtime_.threads <= 1 || entries + rows_ <= kTaskWork) {
      tasks_ = {{0, 0}, {rows_, entries}};
      return;
    }
    const Buffer<int64_t> bound = members_.entries_before(runtime_);
    const auto before = [&](int64_t k) { return bound.data()[k] + k; };
    const int64_t count = ceil_div(before(rows_), kTaskWork);
    for (int64_t t = 0; t < count; ++t) {
      const int64_t row = first_row_after(rows_, t * kTaskWork, before);
      tasks_.push_back({row, bound.data()[row]});
    }
    tasks_.push_back({rows_, bound.data()[rows_]});
  }

  void drop_rows() {
    for (int64_t i = 0; i < c_.graph.rows; ++i) {
      if (cluster_[i] < 0) std::fill(out_slot_ + rowptr_[i], out_slot_ + rowptr_[i + 1], I(-1));
    }
  }

  __attribute__((always_inline)) void prefetch(I m) const {
    if (is_large_) members_.prefetch(m, c_.want_sum ? value_ : nullptr);
  }

  void merge_rows(Task& task, int64_t end, Scratch& scratch) {
    const int64_t all[] = {0, rows_};
    const int64_t* const ptr = c_.ptr ? c_.ptr : all;
    scratch.exact = {}, scratch.kept = 0;
    int64_t n = 0, graph = 0;
    for (int64_t k = task.row; k < end; ++k) {
      while (k >= ptr[graph + 1]) ++graph;
      const int64_t low = ptr[graph], width = ptr[graph + 1] - low;
      I* const col = scratch_col_.data() + task.scratch + n;
      T* const sum = c_.want_sum ? scratch_sum_.data() + task.scratch + n : nullptr;
      if (width > kNear) {
        n += merge_far(k, col, sum, n, scratch);
      } else if (width > kWord) {
        n += value_ ? merge_near<true>(k, low, width, col, sum, n, scratch)
                    : merge_near<false>(k, low, width, col, sum, n, scratch);
      } else {
        n += terms_ == Terms::none      ? merge_word<Terms::none>(k, low, width, col, sum, n, scratch)
             : terms_ == Terms::ones    ? merge_word<Terms::ones>(k, low, width, col, sum, n, scratch)
             : terms_ == Terms::checked ? merge_word<Terms::checked>(k, low, width, col, sum, n, scratch)
                                        : merge_word<Terms::values>(k, low, width, col, sum, n, scratch);
      }
      out_rowptr_[k + 1] = static_cast<I>(n);
    }
    task.entries = n;
    kept_ += scratch.kept;
    if (scratch.exact.rounded()) rounded_ = true;
  }

  int64_t merge_far(int64_t k, I* col, T* sum, int64_t base, Scratch& scratch) {
    ContractedRow<I, T>& row = scratch.row;
    row.reserve(members_.degree(k));
    gather(k, row);
    scratch.kept += row.pushed();
    return row.merge(rows_, c_.injective, terms_, value_, col, sum, out_slot_, base, scratch.exact);
  }

  // The same for columns that are bits of one word, which stays in a register.
  template <Terms kTerms>
  int64_t merge_word(int64_t k, int64_t low, int64_t width, I* out_col, T* out_sum, int64_t base,
                     Scratch& scratch) {
    scratch.reserve(kWord);
    const I *const rowptr = rowptr_, *const col = col_, *const cluster = cluster_, *const node = node_;
    const T* const value = value_;
    double* const sums = scratch.sums.data();
    const bool keep = c_.loops == Loops::keep;
    const int64_t own = k - low;
    ExactSum exact;
    uint64_t seen = 0;
    int64_t kept = 0;
    const I last = first_[k + 1];
    for (I m = first_[k]; m < last; ++m) {
      prefetch(m);
      const int64_t end = rowptr[node[m] + 1];
      for (int64_t e = rowptr[node[m]]; e < end; ++e) {
        const int64_t l = cluster[col[e]], d = l < 0 ? width : l - low;
        seen |= uint64_t{1} << d;
        kept += (d != width) & (keep | (d != own));
        if constexpr (kTerms == Terms::ones) sums[d] += 1;
        if constexpr (kTerms == Terms::values) sums[d] += static_cast<double>(value[e]);
        if constexpr (kTerms == Terms::checked) sums[d] = exact.add(sums[d], static_cast<double>(value[e]));
      }
    }
    if (kTerms == Terms::checked && exact.rounded()) scratch.exact = exact;
    scratch.kept += kept;
    const auto remove = [&](int64_t d) {
      seen &= ~(uint64_t{1} << d);
      sums[d] = 0;
    };
    remove(width);
    if (!keep) {
      if (scratch_loops_.data()) scratch_loops_.data()[k] = static_cast<T>(sums[own]);
      remove(own);
    }
    int64_t n = 0;
    for (uint64_t bits = seen; bits; bits &= bits - 1, ++n) {
      const int64_t d = std::countr_zero(bits);
      out_col[n] = static_cast<I>(low + d);
      if (out_sum) out_sum[n] = static_cast<T>(sums[d]);
      sums[d] = 0;
      if (out_slot_) scratch.places.data()[d] = static_cast<I>(base + n);
    }
    if (out_slot_) write_slots(k, low, width, scratch.places.data());
    return n;
  }

  // Columns are the `width` from `low` on: they are bits of words, which are read in order.
  template <bool kValue>
  int64_t merge_near(int64_t k, int64_t low, int64_t width, I* out_col, T* out_sum, int64_t base,
                     Scratch& scratch) {
    scratch.reserve(width);
    const I *const rowptr = rowptr_, *const col = col_, *const cluster = cluster_, *const node = node_;
    uint64_t* const near = scratch.near;
    double* const sums = scratch.sums.data();
    const bool keep = c_.loops == Loops::keep;
    const I last = first_[k + 1];
    ExactSum exact = scratch.exact;
    uint64_t words = 0;
    int64_t kept = 0;
    for (I m = first_[k]; m < last; ++m) {
      prefetch(m);
      const int64_t end = rowptr[node[m] + 1];
      for (int64_t e = rowptr[node[m]]; e < end; ++e) {
        const int64_t l = cluster[col[e]], d = l < 0 ? width : l - low;
        words |= uint64_t{1} << (d >> 6);
        near[d >> 6] |= uint64_t{1} << (d & 63);
        sums[d] = kValue ? exact.add(sums[d], static_cast<double>(value_[e])) : sums[d] + 1;
        kept += (l >= 0) & (keep | (l != k));
      }
    }
    scratch.exact = exact, scratch.kept += kept;
    const auto remove = [&](int64_t d) { near[d >> 6] &= ~(uint64_t{1} << (d & 63)); };
    remove(width);
    sums[width] = 0;
    if (!keep) {
      remove(k - low);
      if (scratch_loops_.data()) scratch_loops_.data()[k] = static_cast<T>(sums[k - low]);
      sums[k - low] = 0;
    }
    int64_t n = 0;
    for (; words; words &= words - 1) {
      const int64_t word = std::countr_zero(words);
      for (uint64_t bits = near[word]; bits; bits &= bits - 1, ++n) {
        const int64_t d = word * 64 + std::countr_zero(bits);
        out_col[n] = static_cast<I>(low + d);
        if (out_sum) out_sum[n] = static_cast<T>(sums[d]);
        sums[d] = 0;
        scratch.places.data()[d] = static_cast<I>(base + n);
      }
      near[word] = 0;
    }
    if (out_slot_) write_slots(k, low, width, scratch.places.data());
    return n;
  }

  // Slots of the entries of row k from the place of each column.
  void write_slots(int64_t k, int64_t low, int64_t width, I* places) const {
    places[width] = -1;
    if (c_.loops != Loops::keep) places[k - low] = loop_slot();
    for (I m = first_[k]; m < first_[k + 1]; ++m) {
      for (int64_t e = rowptr_[node_[m]]; e < rowptr_[node_[m] + 1]; ++e) {
        const int64_t l = cluster_[col_[e]];
        out_slot_[e] = places[l < 0 ? width : l - low];
      }
    }
  }

  // What slots of entries within a cluster are until the number of all entries is known.
  I loop_slot() const { return c_.loops == Loops::apart ? -2 : -1; }

  // The entries of row k that are kept; slots of the others are -1 or that of loops.
  void gather(int64_t k, ContractedRow<I, T>& row) {
    const bool keep = c_.loops == Loops::keep, loops_apart = scratch_loops_.data() != nullptr;
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
          if (out_slot_) out_slot_[e] = loop ? loop_slot() : I(-1);
        }
      }
    });
    if (loops_apart) scratch_loops_.data()[k] = static_cast<T>(loops);
  }

  // Moves the rows of a task behind those of the tasks before it; `entries`: of all tasks.
  void compact(const Task& task, const Task& next, int64_t entries) {
    const int64_t n = next.entries - task.entries;
    std::copy_n(scratch_col_.data() + task.scratch, n, out_col_ + task.entries);
    if (out_sum_) std::copy_n(scratch_sum_.data() + task.scratch, n, out_sum_ + task.entries);
    const bool apart = c_.loops == Loops::apart;
    if (out_sum_ && apart)
      std::copy_n(scratch_loops_.data() + task.row, next.row - task.row, out_sum_ + entries + task.row);
    if (task.entries == 0 && !(out_slot_ && apart)) return;
    const I moved = static_cast<I>(task.entries);
    for (int64_t k = task.row; k < next.row; ++k) {
      out_rowptr_[k + 1] += moved;
      for (I m = first_[k]; out_slot_ && m < first_[k + 1]; ++m) {
        for (int64_t e = rowptr_[node_[m]]; e < rowptr_[node_[m] + 1]; ++e) {
          I& slot = out_slot_[e];
          if (slot != -1) slot = static_cast<I>(slot == -2 ? entries + k : slot + moved);
        }
      }
    }
  }

  static constexpr int64_t kFew = 1 << 14;  // nodes whose rows a cache holds
  static constexpr int64_t kFewEntries = 1 << 17;
  static constexpr int64_t kWord = 63;  // columns that have a bit of one word, and one is left for no column

  const GraphContract& c_;
  const Runtime& runtime_;
  MemberRows<I> members_;
  const I* rowptr_;
  const I* col_;
  const T* value_;
  const I* cluster_;
  const I* first_;
  const I* node_;
  int64_t rows_;
  bool is_large_;
  Terms terms_;  // checked: sums may depend on their order, and have to be mirrored if they were rounded
  std::vector<Task> tasks_;
  Buffer<I> scratch_col_;
  Buffer<T> scratch_sum_;
  Buffer<T> scratch_loops_;
  std::atomic<int64_t> kept_{0};
  std::atomic<bool> rounded_{false};
  I* out_rowptr_ = nullptr;
  I* out_col_ = nullptr;
  T* out_sum_ = nullptr;
  I* out_slot_ = nullptr;
};

template <typename I, typename T>
ContractedGraph contract(const GraphContract& c, const Runtime& runtime) {
  if (can_be_turned(c)) {
    const auto turned =
        c.want_sum ? TurnedGraph<I, T, true>(c, runtime).run() : TurnedGraph<I, T, false>(c, runtime).run();
    if (turned) return *turned;
  }
  return Contraction<I, T>(c, runtime).run();
}

}  // namespace

ContractedGraph graph_contract(const GraphContract& c, const Runtime& runtime) {
  ContractedGraph out{};
  with_accumulation_type(c.double_value, [&]<typename T>(T) {
    out = c.graph.int64_index ? contract<int64_t, T>(c, runtime) : contract<int32_t, T>(c, runtime);
  });
  return out;
}

}  // namespace hierpool::cpu
