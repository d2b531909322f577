// S^T A S of sparse matrices and its gradients, against a loop over all terms, for one thread and several.
#include <cmath>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "edges.h"
#include "hierpool/triple_product.h"
#include "testing.h"

using namespace hierpool;
using namespace hierpool::testing;

namespace {

template <typename I>
void* make_columns(void* context, int64_t count) {
  auto& col = *static_cast<std::vector<I>*>(context);
  col.resize(static_cast<size_t>(count));
  return col.data();
}

template <typename T, typename I>
struct Inputs {
  Matrix<I> a;
  std::vector<T> value, value_t, weight;
  std::vector<I> rowptr_t, col_t, source;  // the transpose of A, and its entries of A
  std::vector<I> s_rowptr{0}, cluster;     // S, with up to three clusters of a node
  std::vector<I> first{0}, node, entry;    // and its transpose
  int64_t nodes, clusters;

  Inputs(int64_t n, int64_t edges, int64_t k)
      : a(build(draw<I>(n, edges, true, 17), 2)), nodes(n), clusters(k) {
    uint64_t state = 3;
    value.assign(a.value.begin(), a.value.end());
    for (int64_t i = 0; i < n; ++i) {
      std::set<I> own;
      for (int64_t m = 0; m < i % 4; ++m) {
        own.insert(static_cast<I>((noise(state) + 1) / 2 * static_cast<double>(k)));
      }
      cluster.insert(cluster.end(), own.begin(), own.end());
      s_rowptr.push_back(static_cast<I>(cluster.size()));
    }
    for (size_t p = 0; p < cluster.size(); ++p) weight.push_back(static_cast<T>(noise(state)));
    by_column(s_rowptr, cluster, k, first, node, entry);
    rowptr_t.push_back(0);
    by_column(a.rowptr, a.col, n, rowptr_t, col_t, source);
    for (const I e : source) value_t.push_back(value[static_cast<size_t>(e)]);
  }

  static void by_column(const std::vector<I>& rowptr, const std::vector<I>& col, int64_t columns,
                        std::vector<I>& first, std::vector<I>& row, std::vector<I>& entry) {
    for (I k = 0; k < columns; ++k) {
      for (size_t i = 0; i + 1 < rowptr.size(); ++i) {
        for (I e = rowptr[i]; e < rowptr[i + 1]; ++e) {
          if (col[static_cast<size_t>(e)] != k) continue;
          row.push_back(static_cast<I>(i)), entry.push_back(e);
        }
      }
      first.push_back(static_cast<I>(row.size()));
    }
  }

  static Csr csr(const std::vector<I>& rowptr, const std::vector<I>& col, const T* value = nullptr) {
    return {static_cast<int64_t>(rowptr.size()) - 1, sizeof(I) == 8, rowptr.data(), col.data(), value};
  }

  TripleProduct product(Loops loops) const {
    TripleProduct p{};
    p.a = csr(a.rowptr, a.col, value.data());
    p.s = csr(s_rowptr, cluster, weight.data());
    p.members = {clusters, first.data(), node.data()};
    p.entry = entry.data();
    p.loops = loops, p.is_double = sizeof(T) == 8;
    return p;
  }

  // use(p, q, e) for the entries p and q of S that the entry e of A joins.
  template <typename Use>
  void each_term(const Use& use) const {
    for (size_t i = 0; i + 1 < a.rowptr.size(); ++i) {
      for (auto e = static_cast<size_t>(a.rowptr[i]); e < static_cast<size_t>(a.rowptr[i + 1]); ++e) {
        const auto j = static_cast<size_t>(a.col[e]);
        for (auto p = static_cast<size_t>(s_rowptr[i]); p < static_cast<size_t>(s_rowptr[i + 1]); ++p) {
          for (auto q = static_cast<size_t>(s_rowptr[j]); q < static_cast<size_t>(s_rowptr[j + 1]); ++q) {
            use(p, q, e);
          }
        }
      }
    }
  }
};

template <typename T>
void expect_close(const std::vector<T>& got, const std::vector<double>& exact) {
  const double tolerance = sizeof(T) == 8 ? 1e-12 : 1e-4;
  EXPECT(got.size() == exact.size());
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT(std::abs(static_cast<double>(got[i]) - exact[i]) <= tolerance * (1 + std::abs(exact[i])));
  }
}

template <typename T, typename I>
void test_product(int64_t nodes, int64_t edges, int64_t clusters) {
  const Inputs<T, I> given(nodes, edges, clusters);
  for (const Loops loops : {Loops::keep, Loops::drop, Loops::apart}) {
    const TripleProduct p = given.product(loops);
    std::map<std::pair<I, I>, size_t> place;
    given.each_term([&](size_t one, size_t other, size_t) {
      const I k = given.cluster[one], l = given.cluster[other];
      if (k != l || loops == Loops::keep) place[{k, l}] = 0;
    });
    size_t entries = 0;
    for (auto& [key, at] : place) at = entries++;
    std::vector<int64_t> rowptr(static_cast<size_t>(clusters) + 1);
    std::vector<I> col;
    const auto most = static_cast<int64_t>(entries);
    EXPECT(entries == 0 ||
           !cpu::triple_product_places(p, most - 1, rowptr.data(), make_columns<I>, &col, threads(1)));
    EXPECT(col.empty());
    EXPECT(cpu::triple_product_places(p, most, rowptr.data(), make_columns<I>, &col, threads(3)));
    EXPECT(rowptr.back() == most && col.size() == entries);
    for (const auto& [key, at] : place) {
      EXPECT(col[at] == key.second && rowptr[static_cast<size_t>(key.first)] <= static_cast<int64_t>(at));
    }
    const std::vector<I> narrow(rowptr.begin(), rowptr.end());
    const Csr places = Inputs<T, I>::csr(narrow, col);
    const size_t size = entries + (loops == Loops::apart ? static_cast<size_t>(clusters) : 0);
    std::vector<T> dout(size);
    uint64_t state = 9;
    for (T& d : dout) d = static_cast<T>(noise(state));
    std::vector<double> exact(size), dweight(given.weight.size()), dvalue(given.value.size());
    given.each_term([&](size_t one, size_t other, size_t e) {
      const I k = given.cluster[one], l = given.cluster[other];
      if (k == l && loops == Loops::drop) return;
      const size_t at = k == l && loops == Loops::apart ? entries + static_cast<size_t>(k) : place[{k, l}];
      const double a = given.value[e], s = given.weight[one], t = given.weight[other], d = dout[at];
      exact[at] += s * a * t;
      dweight[one] += a * t * d, dweight[other] += s * a * d, dvalue[e] += s * t * d;
    });
    const Csr a_t = Inputs<T, I>::csr(given.rowptr_t, given.col_t, given.value_t.data());
    std::vector<std::vector<T>> results;
    for (const int64_t count : {1, 3}) {
      std::vector<T> out(size), of_weight(dweight.size()), of_value(dvalue.size());
      cpu::triple_product_fwd(p, places, out.data(), threads(count));
      cpu::triple_product_bwd(p, a_t, places, dout.data(), of_weight.data(), of_value.data(), threads(count));
      expect_close(out, exact), expect_close(of_weight, dweight), expect_close(of_value, dvalue);
      results.insert(results.end(), {out, of_weight, of_value});
    }
    for (size_t i = 0; i < 3; ++i) EXPECT(results[i] == results[i + 3]);
  }
}

}  // namespace

TEST(triple_product) {
  test_product<float, int32_t>(40, 300, 7);
  test_product<double, int64_t>(40, 300, 30);
  test_product<double, int32_t>(300, 6000, 3);   // rows of many entries and few columns
  test_product<float, int64_t>(900, 9000, 400);  // several tasks
  test_product<double, int32_t>(5, 0, 2);
}
