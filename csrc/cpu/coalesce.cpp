#include "hierpool/coalesce.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <vector>

#include "cpu/accumulation.h"
#include "cpu/buffer.h"
#include "cpu/exact_sum.h"
#include "cpu/mirror.h"
#include "cpu/tasks.h"

namespace hierpool::cpu {
namespace {

// Sums, products or extremes of one row of the merged matrix, and of its loop.
template <Reduce reduce, typename I>
class Row {
 public:
  static constexpr bool kExtreme = reduce == Reduce::max || reduce == Reduce::min;

  // `none`: what source is where there are no entries.
  void reset(int64_t size, I none) {
    value.assign(static_cast<size_t>(size), reduce == Reduce::mul ? 1.0 : 0.0);
    source.assign(static_cast<size_t>(size), kExtreme ? none : I(0));
    none_ = none;
  }

  void add(size_t place, double term, int64_t entry) {
    double& own = value[place];
    if constexpr (kExtreme) {
      const bool better = reduce == Reduce::max ? !(term <= own) : !(term >= own);
      if (source[place] == none_ || (better && !std::isnan(own))) {
        own = term;
        source[place] = static_cast<I>(entry);
      }
    } else {
      own = reduce == Reduce::mul ? own * term : exact.add(own, term);
      ++source[place];
    }
  }

  double result(size_t place) const {
    if (source[place] == (kExtreme ? none_ : I(0))) return 0;
    return reduce == Reduce::mean ? value[place] / static_cast<double>(source[place]) : value[place];
  }

  std::vector<double> value;
  std::vector<I> source;
  ExactSum exact;

 private:
  I none_ = 0;
};

template <typename I, typename T>
class Coalescing {
 public:
  Coalescing(const Coalesce& c, const Runtime& runtime)
      : c_(c),
        runtime_(runtime),
        rowptr_(static_cast<const I*>(c.graph.rowptr)),
        value_(static_cast<const T*>(c.graph.value)),
        first_(static_cast<const I*>(c.members.first)),
        node_(static_cast<const I*>(c.members.node)),
        slot_(static_cast<const I*>(c.slot)),
        merged_(static_cast<const I*>(c.merged.rowptr)),
        rows_(c.merged.rows),
        entries_(merged_[rows_]),
        width_(c.width) {}

  template <Reduce reduce>
  void forward(T* out, I* source) const {
    std::atomic<bool> rounded{false};
    const I none = rowptr_[c_.graph.rows];
    each_task([&](int64_t begin, int64_t end) {
      Row<reduce, I> row;
      for (int64_t k = begin; k < end; ++k) {
        const int64_t n = (merged_[k + 1] - merged_[k]) * width_;
        row.reset(n + c_.loops * width_, none);
        each_value(k, [&](size_t place, int64_t v, int64_t e) {
          row.add(place, static_cast<double>(value_[v]), e);
        });
        for (int64_t i = 0; i < n + c_.loops * width_; ++i) {
          const int64_t place = i < n ? merged_[k] * width_ + i : (entries_ + k) * width_ + i - n;
          out[place] = static_cast<T>(row.result(static_cast<size_t>(i)));
          source[place] = row.source[static_cast<size_t>(i)];
        }
      }
      if (row.exact.rounded()) rounded = true;
    });
    // Terms in another order may give another number.
    if (c_.symmetric && (rounded || reduce == Reduce::mul)) {
      mirror_values(rows_, merged_, static_cast<const I*>(c_.merged.col), out, runtime_, width_);
    }
  }

  template <Reduce reduce>
  void backward(const I* source, const T* dout, T* dvalue) const {
    constexpr int64_t kEntries = int64_t{1} << 15;
    const int64_t count = rowptr_[c_.graph.rows];
    run_range_tasks(runtime_, count, kEntries, [&](int64_t begin, int64_t end, int64_t) {
      for (int64_t e = begin; e < end; ++e) {
        for (int64_t r = 0; r < width_; ++r) {
          const int64_t s = slot_[e] < 0 ? -1 : slot_[e] * width_ + r;
          const bool counts = s >= 0 && (!Row<reduce, I>::kExtreme || source[s] == e);
          const T number = reduce == Reduce::mean && counts ? static_cast<T>(source[s]) : T(1);
          dvalue[e * width_ + r] = counts ? dout[s] / number : T(0);
        }
      }
    });
    if constexpr (reduce == Reduce::mul) times_others(dvalue);
  }

 private:
  // Multiplies the gradient of each product by its other factors.
  void times_others(T* dvalue) const {
    each_task([&](int64_t begin, int64_t end) {
      Row<Reduce::mul, I> factors;  // that are not 0
      std::vector<int64_t> zeros;
      for (int64_t k = begin; k < end; ++k) {
        const int64_t size = (merged_[k + 1] - merged_[k] + c_.loops) * width_;
        factors.reset(size, 0);
        zeros.assign(static_cast<size_t>(size), 0);
        each_value(k, [&](size_t place, int64_t v, int64_t e) {
          value_[v] == 0 ? void(++zeros[place]) : factors.add(place, static_cast<double>(value_[v]), e);
        });
        each_value(k, [&](size_t place, int64_t v, int64_t) {
          const bool is_zero = value_[v] == 0;
          const double others = factors.value[place] / (is_zero ? 1.0 : static_cast<double>(value_[v]));
          dvalue[v] = zeros[place] > is_zero ? T(0) : static_cast<T>(dvalue[v] * others);
        });
      }
    });
  }

  // use(place in row k, place of the value, entry) for the values of the entries that are merged into row k; those of
  // its loop are behind those of its entries.
  template <typename Use>
  void each_value(int64_t k, const Use& use) const {
    const int64_t first = merged_[k], last = merged_[k + 1];
    for (I m = first_[k]; m < first_[k + 1]; ++m) {
      for (int64_t e = rowptr_[node_[m]]; e < rowptr_[node_[m] + 1]; ++e) {
        const int64_t s = slot_[e];
        if (s < 0) continue;
        const int64_t place = ((s < entries_ ? s : last) - first) * width_;
        for (int64_t r = 0; r < width_; ++r) use(static_cast<size_t>(place + r), e * width_ + r, e);
      }
    }
  }

  // task(begin, end) for ranges of rows of about the same number of entries.
  template <typename Task>
  void each_task(const Task& task) const {
    constexpr int64_t kWork = int64_t{1} << 14;
    run_row_tasks(
        runtime_, rows_, kWork, [&](int64_t k) { return merged_[k] + k; },
        [&](int64_t begin, int64_t end, int64_t) { task(begin, end); });
  }

  const Coalesce& c_;
  const Runtime& runtime_;
  const I* rowptr_;
  const T* value_;
  const I* first_;
  const I* node_;
  const I* slot_;
  const I* merged_;
  int64_t rows_, entries_, width_;
};

// Calls run<reduce>() for the reduction of a call.
template <typename Run>
void with_reduce(Reduce reduce, const Run& run) {
  switch (reduce) {
    case Reduce::sum: return run.template operator()<Reduce::sum>();
    case Reduce::mean: return run.template operator()<Reduce::mean>();
    case Reduce::max: return run.template operator()<Reduce::max>();
    case Reduce::min: return run.template operator()<Reduce::min>();
    case Reduce::mul: return run.template operator()<Reduce::mul>();
  }
}

template <typename Run>
void with_types(const Coalesce& c, const Run& run) {
  with_accumulation_type(c.is_double, [&]<typename T>(T) {
    c.graph.int64_index ? run.template operator()<int64_t, T>() : run.template operator()<int32_t, T>();
  });
}

}  // namespace

void coalesce_fwd(const Coalesce& c, void* out, void* source, const Runtime& runtime) {
  with_types(c, [&]<typename I, typename T>() {
    const Coalescing<I, T> rows(c, runtime);
    with_reduce(c.reduce, [&]<Reduce reduce>() {
      rows.template forward<reduce>(static_cast<T*>(out), static_cast<I*>(source));
    });
  });
}

void coalesce_bwd(const Coalesce& c, const void* source, const void* dout, void* dvalue,
                  const Runtime& runtime) {
  with_types(c, [&]<typename I, typename T>() {
    const Coalescing<I, T> rows(c, runtime);
    with_reduce(c.reduce, [&]<Reduce reduce>() {
      rows.template backward<reduce>(static_cast<const I*>(source), static_cast<const T*>(dout),
                                     static_cast<T*>(dvalue));
    });
  });
}

}  // namespace hierpool::cpu
