#include "cpu/triple_product.h"

#include <atomic>
#include <utility>

#include "cpu/accumulation.h"
#include "cpu/column_set.h"
#include "cpu/mirror.h"

namespace hierpool::cpu {
namespace {

// Columns of some rows.
template <typename I>
struct Part {
  int64_t begin, end;
  std::vector<I> col;
};

template <typename I>
class Places {
 public:
  // Columns are kept as long as there are at most `most` of them.
  Places(const TripleProduct& p, int64_t* rowptr, int64_t most, const Runtime& runtime)
      : terms_(p, p.a, false, false, runtime), rowptr_(rowptr), runtime_(runtime), parts_(runtime, 0) {
    PerThread<ColumnSet> sets(runtime, terms_.clusters());
    std::atomic<int64_t> total{0};
    terms_.each_task([&](int64_t begin, int64_t end, int64_t thread) {
      ColumnSet& set = sets[thread];
      Part<I> part{begin, end, {}};
      for (int64_t k = begin; k < end; ++k) {
        set.clear(terms_.size(k));
        terms_.each(k, [&](I, int64_t, const auto& run) { set.add(run.col, run.size); }, [](I) {});
        if (p.loops != Loops::keep) set.remove(k);
        rowptr[k + 1] = set.count();
        if (total.load(std::memory_order_relaxed) > most) continue;
        const size_t before = part.col.size();
        part.col.resize(before + static_cast<size_t>(set.count()));
        set.write(part.col.data() + before);
      }
      total.fetch_add(static_cast<int64_t>(part.col.size()), std::memory_order_relaxed);
      part.col.shrink_to_fit();
      parts_[thread].push_back(std::move(part));
    });
    rowptr[0] = 0;
    std::partial_sum(rowptr, rowptr + terms_.clusters() + 1, rowptr);
  }

  void write(I* col) {
    run_tasks(runtime_, parts_.size(), [&](int64_t t, int64_t) {
      for (const Part<I>& part : parts_[t]) {
        std::copy(part.col.begin(), part.col.end(), col + rowptr_[part.begin]);
      }
    });
  }

 private:
  Terms<I, float> terms_;  // of which no value is read
  const int64_t* rowptr_;
  const Runtime& runtime_;
  PerThread<std::vector<Part<I>>> parts_;
};

template <typename I, typename T>
void values(const TripleProduct& p, const Csr& product, T* out, const Runtime& runtime) {
  const Terms<I, T> terms(p, p.a, true, false, runtime);
  const TypedCsr<I, T> places(product), s(p.s);
  const auto* entry = static_cast<const I*>(p.entry);
  PerThread<ColumnPlaces> all(runtime, terms.clusters());
  terms.each_task([&](int64_t begin, int64_t end, int64_t thread) {
    std::vector<double> sums;
    for (int64_t k = begin; k < end; ++k) {
      const I first = places.rowptr[k];
      const int64_t size = places.size(k);
      sums.assign(static_cast<size_t>(size + 1), 0.0);  // of the diagonal if it is no entry
      double* sum = sums.data();
      all[thread].set(places.col + first, size, p.loops == Loops::keep ? -1 : k);
      all[thread].with([&](const auto* place) {
        const auto add = [&](I m, int64_t, const auto& run) {
          const double factor = s.at(entry[m]) * run.factor;
          for (int64_t n = 0; n < run.size; ++n) {
            sum[place[run.col[n]]] += factor * static_cast<double>(run.value[n]);
          }
        };
        terms.each(k, add, [](I) {});
      });
      for (int64_t n = 0; n < size; ++n) out[first + n] = static_cast<T>(sum[n]);
      if (p.loops == Loops::apart) out[places.entries() + k] = static_cast<T>(sum[size]);
    }
  });
  // Terms in another order may give another number.
  if (p.symmetric) mirror_values(places.rows, places.rowptr, places.col, out, runtime);
}

}  // namespace

bool triple_product_places(const TripleProduct& p, int64_t most, int64_t* rowptr,
                           void* (*allocate)(void*, int64_t), void* context, const Runtime& runtime) {
  bool all = false;
  with_index(p, [&]<typename I>(I) {
    Places<I> places(p, rowptr, most, runtime);
    const int64_t count = rowptr[p.members.clusters];
    all = count <= most;
    if (all) places.write(static_cast<I*>(allocate(context, count)));
  });
  return all;
}

void triple_product_fwd(const TripleProduct& p, const Csr& product, void* out, const Runtime& runtime) {
  with_accumulation_type(p.is_double, [&]<typename T>(T) {
    with_index(p, [&]<typename I>(I) { values<I>(p, product, static_cast<T*>(out), runtime); });
  });
}

}  // namespace hierpool::cpu
