// Rows of length 1 and their gradients against plain loops, on every instruction set.
#include <cmath>
#include <string>
#include <vector>

#include "hierpool/unit_rows.h"
#include "testing.h"

using namespace hierpool;
using namespace hierpool::testing;

namespace {

template <typename T>
void check(int64_t rows, int64_t n, bool relu) {
  constexpr bool wide = sizeof(T) == 8;
  const double tolerance = wide ? 1e-13 : 2e-5;
  const int64_t stride = n + 3, dout_stride = n + 1;
  uint64_t state = 1;
  std::vector<T> h(rows * stride), dout(rows * dout_stride);
  for (T& v : h) v = static_cast<T>(noise(state));
  for (T& v : dout) v = static_cast<T>(noise(state));
  if (rows > 2) {
    for (int64_t k = 0; k < n; ++k) {
      h[stride + k] = 0;
      h[2 * stride + k] *= static_cast<T>(1e-14);
    }
  }
  const std::vector<T> before = h;
  std::vector<T> length(rows), out(rows * n), dh(h.size(), T(7));
  const UnitRows shape{rows, n, wide, relu};
  cpu::unit_rows_fwd(shape, h.data(), stride, length.data(), out.data(), threads(1));
  cpu::unit_rows_bwd(shape, dout.data(), dout_stride, h.data(), length.data(), dh.data(), stride, threads(1));
  for (int64_t i = 0; i < rows; ++i) {
    const T* x = before.data() + i * stride;
    const T* y = h.data() + i * stride;
    const T* g = dout.data() + i * dout_stride;
    double square = 0, along = 0;
    for (int64_t k = 0; k < n; ++k) square += static_cast<double>(x[k]) * x[k];
    const double norm = std::sqrt(square), expected_length = norm > 1e-12 ? norm : 1e-12;
    EXPECT(std::abs(length[i] / expected_length - 1) < tolerance);
    const auto passed = [&](int64_t k) { return relu && !(x[k] > 0) ? 0.0 : static_cast<double>(g[k]); };
    for (int64_t k = 0; k < n && norm > 1e-12; ++k) along += passed(k) * x[k] / norm;
    for (int64_t k = 0; k < n; ++k) {
      const double unit = x[k] / expected_length;
      EXPECT(std::abs(y[k] - unit) < tolerance);
      EXPECT(std::abs(out[i * n + k] - (relu && unit < 0 ? 0 : unit)) < tolerance);
      const double gradient = (passed(k) - along * unit) / expected_length;
      EXPECT(std::abs(dh[i * stride + k] - gradient) < tolerance * (1 + n) / expected_length);
    }
    for (int64_t k = n; k < stride; ++k) {  // nothing beyond a row is touched
      EXPECT(y[k] == x[k]);
      EXPECT(dh[i * stride + k] == T(7));
    }
  }
}

}  // namespace

TEST(unit_rows) {
  for_each_isa([](cpu::Isa) {
    for (int64_t n : {1, 7, 16, 31, 64, 100}) {
      for (bool relu : {false, true}) {
        check<float>(5, n, relu);
        check<double>(700, n, relu);
      }
    }
    check<float>(0, 4, true);
    check<float>(3, 0, true);
  });
}
