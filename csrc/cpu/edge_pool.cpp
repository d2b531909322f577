#include "hierpool/edge_pool.h"

#include <algorithm>
#include <vector>

#include "cpu/accumulation.h"
#include "cpu/buffer.h"
#include "cpu/isa.h"
#include "cpu/partial_sums.h"
#include "cpu/row_kernels.h"
#include "cpu/tasks.h"

namespace hierpool::cpu {
namespace {

constexpr int64_t kRows = 2048;  // of one task

template <typename T, typename I>
void linear(const EdgePool& p, T bias, T* out, const Runtime& runtime) {
  const int64_t n = p.n;
  const auto* const x = static_cast<const T*>(p.x);
  const auto* const weight = static_cast<const T*>(p.weight);
  const auto* const rowptr = static_cast<const I*>(p.graph.rowptr);
  const auto* const col = static_cast<const I*>(p.graph.col);
  const Buffer<T> source(p.graph.rows), target(p.graph.rows);
  run_range_tasks(runtime, p.graph.rows, kRows, [&](int64_t begin, int64_t end, int64_t) {
    const RowKernels<T>& kernels = row_kernels<T>(isa_in_force());
    for (int64_t i = begin; i < end; ++i) {
      source.data()[i] = kernels.dot(x + i * n, weight, n);
      target.data()[i] = kernels.dot(x + i * n, weight + n, n);
    }
  });
  run_range_tasks(runtime, p.graph.rows, kRows, [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t i = begin; i < end; ++i) {
      const T own = source.data()[i];
      for (I e = rowptr[i]; e < rowptr[i + 1]; ++e) out[e] = own + target.data()[col[e]] + bias;
    }
  });
}

template <typename T, typename I>
class Pairs {
 public:
  explicit Pairs(const EdgePool& p)
      : p_(p),
        rowptr_(static_cast<const I*>(p.graph.rowptr)),
        col_(static_cast<const I*>(p.graph.col)),
        mate_(static_cast<const I*>(p.mate)),
        score_(static_cast<const T*>(p.score)) {}

  void factors(T* factor, const Runtime& runtime) const {
    run_range_tasks(runtime, p_.graph.rows, kRows, [&](int64_t begin, int64_t end, int64_t) {
      for (int64_t i = begin; i < end; ++i) factor[i] = factor_of(entry_of(i), other_entry_of(i));
    });
  }

 protected:
  // The entry of row i whose column is its mate, or -1.
  I entry_of(int64_t i) const { return mate_[i] < 0 ? I{-1} : find(i, mate_[i]); }
  I other_entry_of(int64_t i) const { return mate_[i] < 0 ? I{-1} : find(mate_[i], static_cast<I>(i)); }

  T factor_of(I one, I other) const {
    if (one < 0 && other < 0) return 1;
    if (one < 0 || other < 0) return score_[std::max(one, other)];
    return std::max(score_[one], score_[other]);
  }

  // The part of the gradient of the factor that goes to the score of the entry `one`, 0 if it is -1.
  T share(I one, I other) const {
    if (one < 0) return 0;
    if (other < 0 || score_[one] > score_[other]) return 1;
    return score_[one] == score_[other] ? T(0.5) : T(0);
  }

  const EdgePool& p_;
  const I* rowptr_;
  const I* col_;
  const I* mate_;
  const T* score_;

 private:
  I find(int64_t row, I column) const {
    constexpr I kFew = 16;  // are compared without a branch that could be mispredicted
    const I begin = rowptr_[row], end = rowptr_[row + 1];
    if (end - begin <= kFew) {
      I found = -1;
      for (I e = end; e-- > begin;) found = col_[e] == column ? e : found;  // the first of equal ones
      return found;
    }
    const I* const at = std::lower_bound(col_ + begin, col_ + end, column);
    return at < col_ + end && *at == column ? static_cast<I>(at - col_) : I{-1};
  }
};

template <typename T, typename I>
class PairsBackward : Pairs<T, I> {
 public:
  using Pairs<T, I>::p_, Pairs<T, I>::rowptr_, Pairs<T, I>::col_, Pairs<T, I>::mate_;

  explicit PairsBackward(const EdgePool& p)
      : Pairs<T, I>(p),
        known_(static_cast<const T*>(p.known)),
        source_(p.graph.rows),
        target_(p.graph.rows),
        factor_(p.graph.rows),
        cluster_(p.graph.rows) {
    std::fill_n(source_.data(), p.graph.rows, T(0));
    std::fill_n(target_.data(), p.graph.rows, T(0));
  }

  void run(T* dx, T* dweight, T* dbias, const Runtime& runtime) {
    run_range_tasks(runtime, p_.clusters, kRows,
                    [&](int64_t begin, int64_t end, int64_t) { pairs(begin, end); });
    if (p_.dscore) entries();
    if (p_.activation == Activation::softmax) {
      run_range_tasks(runtime, p_.graph.rows, kRows,
                      [&](int64_t begin, int64_t end, int64_t) { columns(begin, end); });
      std::fill_n(target_.data(), p_.graph.rows, T(0));  // what is the same in a column does not matter
    }
    linear(dx, dweight, dbias, runtime);
  }

 private:
  // The derivative of the score of an entry by the linear map; of softmax without that of its sum.
  T slope(I e) const { return slope_at(p_.activation, known_[e]); }

  // The gradients of the scores of pairs, and what those of rows need, of the clusters [begin, end).
  void pairs(int64_t begin, int64_t end) {
    const RowKernels<T>& kernels = row_kernels<T>(isa_in_force());
    const auto* const x = static_cast<const T*>(p_.x);
    const auto* const dy = static_cast<const T*>(p_.dy);
    const auto* const dfactor = static_cast<const T*>(p_.dfactor);
    const auto* const first = static_cast<const I*>(p_.first);
    const auto* const node = static_cast<const I*>(p_.node);
    for (int64_t k = begin; k < end; ++k) {
      T up = 0;
      for (I m = first[k]; m < first[k + 1]; ++m) {
        const int64_t i = node[m];
        if (dfactor) up += dfactor[i];
        if (dy) up += kernels.dot(x + i * p_.n, dy + k * p_.n, p_.n);
      }
      for (I m = first[k]; m < first[k + 1]; ++m) {
        const int64_t i = node[m];
        const I one = this->entry_of(i), other = this->other_entry_of(i);
        factor_.data()[i] = this->factor_of(one, other);
        cluster_.data()[i] = static_cast<I>(k);
        if (one < 0) continue;
        // A loop is both entries of its pair, each with one half.
        const T a = (mate_[i] == i ? T(1) : this->share(one, other)) * up * slope(one);
        source_.data()[i] += a, target_.data()[mate_[i]] += a;
      }
    }
  }

  // The gradients of all scores; in one thread, as entries of different rows have the same column.
  void entries() {
    const auto* const dscore = static_cast<const T*>(p_.dscore);
    for (int64_t i = 0; i < p_.graph.rows; ++i) {
      for (I e = rowptr_[i]; e < rowptr_[i + 1]; ++e) {
        const T a = slope(e) * dscore[e];
        source_.data()[i] += a, target_.data()[col_[e]] += a;
      }
    }
  }

  // Subtracts what the sums of softmax take from each entry of the rows [begin, end).
  void columns(int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      T sum = 0;
      for (I e = rowptr_[i]; e < rowptr_[i + 1]; ++e) sum += known_[e] * target_.data()[col_[e]];
      source_.data()[i] -= sum;
    }
  }

  void linear(T* dx, T* dweight, T* dbias, const Runtime& runtime) const {
    const auto* const x = static_cast<const T*>(p_.x);
    const auto* const dy = static_cast<const T*>(p_.dy);
    const auto* const weight = static_cast<const T*>(p_.weight);
    const int64_t n = p_.n, width = 2 * n + 1;
    PartialSums<T> sums(ceil_div(p_.graph.rows, kRows), width);
    run_range_tasks(runtime, p_.graph.rows, kRows, [&](int64_t begin, int64_t end, int64_t) {
      const RowKernels<T>& kernels = row_kernels<T>(isa_in_force());
      T* const sum = sums.begin(begin / kRows);
      for (int64_t i = begin; i < end; ++i) {
        const T slopes[] = {source_.data()[i], target_.data()[i]};
        const T* const above = dy ? dy + cluster_.data()[i] * n : nullptr;
        kernels.product_gradient(dx + i * n, sum, x + i * n, above, factor_.data()[i], weight, slopes, 2, n);
        sum[2 * n] += slopes[0];
      }
    });
    const std::vector<double> total = sums.total();
    std::transform(total.begin(), total.end() - 1, dweight, [](double sum) { return static_cast<T>(sum); });
    *dbias = static_cast<T>(total.back());
  }

  const T* known_;
  // [rows]
  Buffer<T> source_, target_;  // gradients of the linear maps of a node as row and as column of its entries
  Buffer<T> factor_;
  Buffer<I> cluster_;
};

}  // namespace

void edge_linear(const EdgePool& pool, const void* bias, void* out, const Runtime& runtime) {
  with_accumulation_type(pool.is_double, [&]<typename T>(T) {
    const T constant = *static_cast<const T*>(bias);
    pool.graph.int64_index ? linear<T, int64_t>(pool, constant, static_cast<T*>(out), runtime)
                           : linear<T, int32_t>(pool, constant, static_cast<T*>(out), runtime);
  });
}

void edge_factors(const EdgePool& pool, void* factor, const Runtime& runtime) {
  with_accumulation_type(pool.is_double, [&]<typename T>(T) {
    const auto run = [&](const auto& pairs) { pairs.factors(static_cast<T*>(factor), runtime); };
    pool.graph.int64_index ? run(Pairs<T, int64_t>(pool)) : run(Pairs<T, int32_t>(pool));
  });
}

void edge_pool_bwd(const EdgePool& pool, void* dx, void* dweight, void* dbias, const Runtime& runtime) {
  with_accumulation_type(pool.is_double, [&]<typename T>(T) {
    const auto run = [&](auto backward) {
      backward.run(static_cast<T*>(dx), static_cast<T*>(dweight), static_cast<T*>(dbias), runtime);
    };
    pool.graph.int64_index ? run(PairsBackward<T, int64_t>(pool)) : run(PairsBackward<T, int32_t>(pool));
  });
}

}  // namespace hierpool::cpu
