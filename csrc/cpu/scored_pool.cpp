#include "hierpool/scored_pool.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "cpu/accumulation.h"
#include "cpu/isa.h"
#include "cpu/partial_sums.h"
#include "cpu/row_kernels.h"
#include "cpu/tasks.h"

namespace hierpool::cpu {
namespace {

constexpr int64_t kRows = 512;  // of one task
constexpr int64_t kAhead = 8;   // rows from places all over memory are asked for before they are used

template <typename T>
__attribute__((always_inline)) inline void prefetch_row(const T* row, int64_t n) {
  constexpr int64_t kLine = 64 / sizeof(T);
  for (int64_t j = 0; j < n; j += kLine) __builtin_prefetch(row + j);
}

// w, or w divided by its norm.
template <typename T>
struct Direction {
  explicit Direction(const ScoredPool& p)
      : values(static_cast<const T*>(p.weight), static_cast<const T*>(p.weight) + p.n) {
    if (!p.unit) return;
    double squares = 0;
    for (T w : values) squares += static_cast<double>(w) * static_cast<double>(w);
    norm = std::max(std::sqrt(squares), static_cast<double>(std::numeric_limits<T>::min()));
    for (T& w : values) w = static_cast<T>(static_cast<double>(w) / norm);
  }
  std::vector<T> values;
  double norm = 1;
};

template <typename T>
void project(const ScoredPool& p, const T* bias, T* out, const Runtime& runtime) {
  const Direction<T> direction(p);
  const RowKernels<T>& kernels = row_kernels<T>(isa_in_force());
  const auto* const x = static_cast<const T*>(p.x);
  const T shift = bias ? *bias : T(0);
  run_range_tasks(for_work(runtime, p.rows * p.n), p.rows, kRows, [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t i = begin; i < end; ++i)
      out[i] = kernels.dot(x + i * p.n, direction.values.data(), p.n) + shift;
  });
}

template <typename T, typename I>
void pool_rows(const ScoredPool& p, const Members& members, T* y, const Runtime& runtime) {
  const RowKernels<T>& kernels = row_kernels<T>(isa_in_force());
  const auto *const x = static_cast<const T*>(p.x), *const score = static_cast<const T*>(p.score);
  const auto *const first = static_cast<const I*>(members.first), *const node =
                                                                      static_cast<const I*>(members.node);
  const T multiplier = static_cast<T>(p.multiplier);
  const int64_t n = p.n;
  run_range_tasks(for_work(runtime, members.clusters * n), members.clusters, kRows,
                  [&](int64_t begin, int64_t end, int64_t) {
                    const I last = first[members.clusters];
                    for (int64_t k = begin; k < end; ++k) {
                      T* __restrict__ const row = y + k * n;
                      if (first[k] == first[k + 1]) std::fill_n(row, n, T(0));
                      for (I m = first[k]; m < first[k + 1]; ++m) {
                        if (m + kAhead < last) prefetch_row(x + node[m + kAhead] * n, n);
                        const T* __restrict__ const from = x + node[m] * n;
                        const T factor = multiplier * score[node[m]];
                        if (m > first[k]) {
                          kernels.axpy(row, factor, from, n);
                        } else {
                          for (int64_t j = 0; j < n; ++j) row[j] = factor * from[j];
                        }
                      }
                    }
                  });
}

template <typename T, typename I>
class Backward {
 public:
  Backward(const ScoredPool& p, T* dx) : p_(p), dx_(dx), direction_(p) {}

  void run(T* dweight, T* dbias, const Runtime& runtime) {
    const int64_t n = p_.n;
    // What rows add to the gradients of the direction and the bias.
    PartialSums<T> parts(ceil_div(p_.rows, kRows), n + 1);
    run_range_tasks(for_work(runtime, p_.rows * n), p_.rows, kRows, [&](int64_t begin, int64_t end, int64_t) {
      rows(begin, end, parts.begin(begin / kRows));
    });
    const std::vector<double> sums = parts.total();
    double along = 0;
    for (size_t j = 0; p_.unit && j < direction_.values.size(); ++j)
      along += sums[j] * static_cast<double>(direction_.values[j]);
    for (size_t j = 0; j < direction_.values.size(); ++j) {
      dweight[j] =
          static_cast<T>((sums[j] - along * static_cast<double>(direction_.values[j])) / direction_.norm);
    }
    *dbias = static_cast<T>(sums.back());
  }

 private:
  // sums[n + 1]
  void rows(int64_t begin, int64_t end, T* sums) const {
    const RowKernels<T>& kernels = row_kernels<T>(isa_in_force());
    const int64_t n = p_.n;
    const auto* const score = static_cast<const T*>(p_.score);
    const auto* const dscore = static_cast<const T*>(p_.dscore);
    const auto* const dy = static_cast<const T*>(p_.dy);
    const T multiplier = static_cast<T>(p_.multiplier);
    const auto* const cluster = static_cast<const I*>(p_.cluster);
    for (int64_t i = begin; i < end; ++i) {
      if (dy && i + kAhead < end && cluster[i + kAhead] >= 0) prefetch_row(dy + cluster[i + kAhead] * n, n);
      const T* const x = static_cast<const T*>(p_.x) + i * n;
      const I c = cluster[i];
      const T* const g = dy && c >= 0 ? dy + c * n : nullptr;
      const T s = score[i], slope = slope_at(p_.activation, s);
      const T up = (dscore ? dscore[i] : T(0)) + (g ? multiplier * kernels.dot(x, g, n) : T(0));
      const T dz = up * slope;
      kernels.product_gradient(dx_ + i * n, sums, x, g, multiplier * s, direction_.values.data(), &dz, 1, n);
      sums[n] += dz;
    }
  }

  const ScoredPool& p_;
  T* dx_;
  Direction<T> direction_;
};

}  // namespace

void scored_pool_project(const ScoredPool& pool, const void* bias, void* out, const Runtime& runtime) {
  with_accumulation_type(pool.is_double, [&]<typename T>(T) {
    project(pool, static_cast<const T*>(bias), static_cast<T*>(out), runtime);
  });
}

void scored_pool_fwd(const ScoredPool& pool, const Members& members, void* y, const Runtime& runtime) {
  with_accumulation_type(pool.is_double, [&]<typename T>(T) {
    pool.int64_index ? pool_rows<T, int64_t>(pool, members, static_cast<T*>(y), runtime)
                     : pool_rows<T, int32_t>(pool, members, static_cast<T*>(y), runtime);
  });
}

void scored_pool_bwd(const ScoredPool& pool, void* dx, void* dweight, void* dbias, const Runtime& runtime) {
  with_accumulation_type(pool.is_double, [&]<typename T>(T) {
    const auto run = [&](auto backward) {
      backward.run(static_cast<T*>(dweight), static_cast<T*>(dbias), runtime);
    };
    pool.int64_index ? run(Backward<T, int64_t>(pool, static_cast<T*>(dx)))
                     : run(Backward<T, int32_t>(pool, static_cast<T*>(dx)));
  });
}

}  // namespace hierpool::cpu
