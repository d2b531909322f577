// The gradients of S^T A S = P in the values of S and A: with that of P as G,
//   dS_ik = sum_jl a_ij s_jl G_kl + sum_jl a_ji s_jl G_lk,    dA_ij = sum_kl s_ik s_jl G_kl.
#include <memory>

#include "cpu/accumulation.h"
#include "cpu/mirror.h"
#include "cpu/triple_product.h"

namespace hierpool::cpu {
namespace {

// Some rows of the transpose of G.
template <typename I, typename T>
class TurnedRows {
 public:
  explicit TurnedRows(int64_t clusters) : from_(static_cast<size_t>(clusters)) {}

  void take(const TypedCsr<I, T>& places, const T* grad, bool symmetric, int64_t begin, int64_t end) {
    begin_ = begin;
    first_.assign(static_cast<size_t>(end - begin + 1), 0);
    if (symmetric) {
      for (int64_t k = begin; k <= end; ++k) first_[at(k)] = places.rowptr[k] - places.rowptr[begin];
    } else {
      each_entry(places, begin, end, true, [&](int64_t, int64_t e) { ++first_[at(places.col[e] + 1)]; });
      std::partial_sum(first_.begin(), first_.end(), first_.begin());
      row_.resize(static_cast<size_t>(first_.back()));
    }
    next_ = first_;
    value_.resize(static_cast<size_t>(first_.back()));
    each_entry(places, begin, end, symmetric, [&](int64_t l, int64_t e) {
      const auto place = static_cast<size_t>(next_[at(places.col[e])]++);
      value_[place] = grad[e];
      if (!symmetric) row_[place] = static_cast<I>(l);
    });
    rows_ = symmetric ? places.col + places.rowptr[begin] : row_.data();
  }

  int64_t size(int64_t k) const { return first_[at(k + 1)] - first_[at(k)]; }
  const I* col(int64_t k) const { return rows_ + first_[at(k)]; }
  const T* value(int64_t k) const { return value_.data() + first_[at(k)]; }

 private:
  size_t at(int64_t column) const { return static_cast<size_t>(column - begin_); }

  // use(row, entry) for the entries in the columns [begin, end); the first pass finds where they are in each row.
  template <typename Use>
  void each_entry(const TypedCsr<I, T>& m, int64_t begin, int64_t end, bool find, const Use& use) {
    for (int64_t l = 0; l < m.rows; ++l) {
      const I* last = m.col + m.rowptr[l + 1];
      I& from = from_[static_cast<size_t>(l)];
      if (find) {
        from = static_cast<I>(std::lower_bound(m.col + m.rowptr[l], last, static_cast<I>(begin)) - m.col);
      }
      for (const I* c = m.col + from; c != last && *c < end; ++c) use(l, c - m.col);
    }
  }

  int64_t begin_ = 0;
  const I* rows_ = nullptr;
  std::vector<I> from_;  // of each row: its first entry in these columns
  std::vector<int64_t> first_, next_;
  std::vector<I> row_;
  std::vector<T> value_;
};

enum class Side { rows, columns, both };  // of G: its rows, those of its transpose, or their sums

template <typename I, typename T>
class Backward {
 public:
  Backward(const TripleProduct& p, const Csr& product, const T* grad, const Runtime& runtime)
      : p_(p),
        places_(product),
        s_(p.s),
        entry_(static_cast<const I*>(p.entry)),
        grad_(grad),
        loop_(grad + (p.loops == Loops::apart ? places_.entries() : 0)),
        runtime_(runtime) {}

  void run(const Csr& a_t, T* dweight, T* dvalue) {
    if (dvalue) {
      first_term_ = first_terms();
      terms_ = Buffer<T>(first_term_.data()[s_.rows]);
    }
    if (p_.symmetric && !dvalue) return pass(p_.a, Side::both, dweight, false);
    pass(p_.a, Side::rows, dweight, false);
    if (dvalue) add_terms(dvalue), terms_ = {};
    if (dweight) pass(p_.symmetric ? p_.a : a_t, Side::columns, dweight, true);
  }

 private:
  struct Scratch {
    explicit Scratch(int64_t clusters) : places(clusters), turned(clusters) {}
    ColumnPlaces places;
    std::vector<T> row;  // of G
    TurnedRows<I, T> turned;
  };

  // dweight_ik (+)= sum_jl a_ij s_jl G_kl, and the terms of dvalue if they are wanted.
  void pass(const Csr& a, Side side, T* dweight, bool add) {
    const Terms<I, T> terms(p_, a, true, terms_.data() != nullptr, runtime_);
    PerThread<Scratch> all(runtime_, terms.clusters());
    if (side == Side::rows) {
      return terms.each_task([&](int64_t begin, int64_t end, int64_t thread) {
        for (int64_t k = begin; k < end; ++k) row(terms, k, side, all[thread], dweight, add);
      });
    }
    each_column_range(places_.rows, places_.rowptr, runtime_,
                      [&](int64_t begin, int64_t end, int64_t thread) {
                        Scratch& own = all[thread];
                        own.turned.take(places_, grad_, p_.symmetric, begin, end);
                        for (int64_t k = begin; k < end; ++k) row(terms, k, side, own, dweight, add);
                      });
  }

  void row(const Terms<I, T>& terms, int64_t k, Side side, Scratch& own, T* dweight, bool add) {
    take(k, side, own);
    const T* g = own.row.data();
    double total = 0;
    own.places.with([&](const auto* place) {
      const auto use = [&](I m, int64_t n, const auto& run) {
        double term = 0;
        for (int64_t q = 0; q < run.size; ++q) {
          term += static_cast<double>(run.value[q]) * static_cast<double>(g[place[run.col[q]]]);
        }
        if (terms_.data()) term_of(entry_[m], terms.node(m))[n] = static_cast<T>(term);
        total += run.factor * term;
      };
      terms.each(k, use, [&](I m) {
        if (dweight) dweight[entry_[m]] = static_cast<T>(add ? dweight[entry_[m]] + total : total);
        total = 0;
      });
    });
  }

  // Row k of G, of its transpose, or of their sum, of which A has the same places if it is symmetric.
  void take(int64_t k, Side side, Scratch& own) const {
    const bool by_rows = side != Side::columns;
    const I* col = by_rows ? places_.col + places_.rowptr[k] : own.turned.col(k);
    const T* value = by_rows ? grad_ + places_.rowptr[k] : own.turned.value(k);
    const int64_t size = by_rows ? places_.size(k) : own.turned.size(k);
    own.places.set(col, size, p_.loops == Loops::keep ? -1 : k);
    own.row.assign(value, value + size);
    if (side == Side::both) {
      const T* other = own.turned.value(k);
      for (int64_t n = 0; n < size; ++n) own.row[static_cast<size_t>(n)] += other[n];
    }
    const T loop = p_.loops == Loops::apart ? loop_[k] : T(0);
    own.row.push_back(side == Side::both ? 2 * loop : loop);
  }

  // For each node, the number of pairs of its entries in S and in A before it.
  Buffer<int64_t> first_terms() const {
    const TypedCsr<I, T> a(p_.a);
    Buffer<int64_t> first(s_.rows + 1);
    first.data()[0] = 0;
    for (int64_t i = 0; i < s_.rows; ++i) first.data()[i + 1] = first.data()[i] + s_.size(i) * a.size(i);
    return first;
  }

  // The terms of an entry of S in row i, one for each entry of A in that row.
  T* term_of(int64_t entry, int64_t i) const {
    const TypedCsr<I, T> a(p_.a);
    return terms_.data() + first_term_.data()[i] + (entry - s_.rowptr[i]) * a.size(i);
  }

  void add_terms(T* dvalue) const {
    constexpr int64_t kWork = int64_t{1} << 14;
    const TypedCsr<I, T> a(p_.a);
    const auto before = [&](int64_t i) { return static_cast<int64_t>(a.rowptr[i]) + i; };
    run_row_tasks(runtime_, a.rows, kWork, before, [&](int64_t begin, int64_t end, int64_t) {
      for (int64_t i = begin; i < end; ++i) {
        for (I e = a.rowptr[i]; e < a.rowptr[i + 1]; ++e) {
          double total = 0;
          for (I q = s_.rowptr[i]; q < s_.rowptr[i + 1]; ++q) {
            total += s_.at(q) * static_cast<double>(term_of(q, i)[e - a.rowptr[i]]);
          }
          dvalue[e] = static_cast<T>(total);
        }
      }
    });
  }

  const TripleProduct& p_;
  TypedCsr<I, T> places_, s_;
  const I* entry_;
  const T* grad_;
  const T* loop_;
  const Runtime& runtime_;
  Buffer<int64_t> first_term_;
  Buffer<T> terms_;
};

}  // namespace

void triple_product_bwd(const TripleProduct& p, const Csr& a_t, const Csr& product, const void* dout,
                        void* dweight, void* dvalue, const Runtime& runtime) {
  with_accumulation_type(p.is_double, [&]<typename T>(T) {
    with_index(p, [&]<typename I>(I) {
      Backward<I, T>(p, product, static_cast<const T*>(dout), runtime)
          .run(a_t, static_cast<T*>(dweight), static_cast<T*>(dvalue));
    });
  });
}

}  // namespace hierpool::cpu
