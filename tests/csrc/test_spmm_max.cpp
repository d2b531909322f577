// Extremes of the rows that a sparse matrix gathers, and their gradients, against plain loops.
#include <cmath>
#include <vector>

#include "edges.h"
#include "hierpool/spmm_max.h"
#include "testing.h"

using namespace hierpool;
using namespace hierpool::testing;

namespace {

template <typename T, typename I>
void test_extremes(int64_t nodes, int64_t edges, int64_t n, bool smallest, bool weighted) {
  const Matrix<I> m = build(draw<I>(nodes, edges, true, 3), 2);
  std::vector<I> rowptr(m.rowptr.size()), col(m.col.size()), source(m.col.size());
  cpu::csr_transpose(m.csr(), nodes, rowptr.data(), col.data(), source.data(), threads(1));
  uint64_t state = 11;
  std::vector<T> value(m.value.begin(), m.value.end()), x(static_cast<size_t>(nodes * n)), dy(x.size());
  for (T& v : x) v = static_cast<T>(noise(state));
  for (T& v : dy) v = static_cast<T>(noise(state));
  std::vector<T> value_t(value.size());
  for (size_t e = 0; e < source.size(); ++e) value_t[e] = value[static_cast<size_t>(source[e])];
  const T *values = weighted ? value.data() : nullptr, *values_t = weighted ? value_t.data() : nullptr;
  const Spmm a{{nodes, sizeof(I) == 8, m.rowptr.data(), m.col.data(), values}, sizeof(T) == 8, n};
  const Spmm transpose{{nodes, sizeof(I) == 8, rowptr.data(), col.data(), values_t}, sizeof(T) == 8, n};
  std::vector<T> out(x.size()), again(x.size()), dx(x.size()), dx_again(x.size()), dvalue(value.size());
  std::vector<I> column(x.size()), column_again(x.size());
  cpu::spmm_max_fwd(a, {x.data(), n}, smallest, nodes, out.data(), column.data(), threads(1));
  cpu::spmm_max_fwd(a, {x.data(), n}, smallest, nodes, again.data(), column_again.data(), threads(3));
  cpu::spmm_max_bwd(transpose, {x.data(), n}, dy.data(), column.data(), dx.data(), dvalue.data(), threads(1));
  cpu::spmm_max_bwd(transpose, {x.data(), n}, dy.data(), column.data(), dx_again.data(), nullptr, threads(3));
  EXPECT(out == again && column == column_again && dx == dx_again);
  std::vector<double> slope(x.size()), of_value(value.size());
  for (int64_t i = 0; i < nodes; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      const auto place = static_cast<size_t>(i * n + j);
      T best = 0;
      int64_t from = nodes, entry = -1;
      for (int64_t e = m.rowptr[static_cast<size_t>(i)]; e < m.rowptr[static_cast<size_t>(i) + 1]; ++e) {
        const auto at = static_cast<size_t>(e);
        const T v = (weighted ? value[at] : T(1)) * x[static_cast<size_t>(m.col[at] * n + j)];
        if (entry < 0 || (smallest ? v < best : v > best)) best = v, from = m.col[at], entry = e;
      }
      EXPECT(out[place] == best && column[place] == static_cast<I>(from));
      if (entry < 0) continue;
      const auto at = static_cast<size_t>(entry), row = static_cast<size_t>(from * n + j);
      slope[row] += (weighted ? double(value[at]) : 1) * dy[place];
      of_value[at] += double(x[row]) * dy[place];
    }
  }
  const double tolerance = sizeof(T) == 8 ? 1e-12 : 1e-4;
  for (size_t i = 0; i < slope.size(); ++i) EXPECT(std::abs(slope[i] - dx[i]) <= tolerance);
  for (size_t e = 0; e < source.size(); ++e) {
    EXPECT(std::abs(of_value[static_cast<size_t>(source[e])] - dvalue[e]) <= tolerance);
  }
}

}  // namespace

TEST(spmm_max) {
  for_each_isa([](cpu::Isa) {
    for (const int64_t n : {1, 7, 33}) {
      test_extremes<float, int32_t>(60, 200, n, false, true);
      test_extremes<double, int64_t>(60, 200, n, true, true);
      test_extremes<float, int64_t>(3000, 3000, n, true, false);
      test_extremes<double, int32_t>(3, 0, n, false, false);
    }
  });
}
