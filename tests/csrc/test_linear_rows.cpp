// A linear map of valid rows and its gradients against plain loops, on every instruction set and number of threads.
#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include "cpu/isa.h"
#include "expect.h"
#include "hierpool/linear_rows.h"
#include "running.h"

using namespace hierpool;
using hierpool::testing::noise;
using hierpool::testing::threads;

namespace {

template <typename T>
std::vector<T> draw(int64_t count, uint64_t& state) {
  std::vector<T> values(static_cast<size_t>(count));
  for (T& v : values) v = static_cast<T>(noise(state));
  return values;
}

// What is in rows that are not valid must be neither read nor kept.
template <typename T>
void spoil(std::vector<T>& rows, int64_t stride, const std::vector<uint8_t>& mask) {
  for (size_t i = 0; i < mask.size(); ++i) {
    for (int64_t k = 0; !mask[i] && k < stride; ++k)
      rows[i * static_cast<size_t>(stride) + static_cast<size_t>(k)] = T(NAN);
  }
}

template <typename T>
void check(int64_t rows, int64_t m, int64_t n, bool masked) {
  constexpr bool wide = sizeof(T) == 8;
  const double tolerance = wide ? 1e-12 : 1e-4;
  const int64_t stride = m + 3, dy_stride = n + 1;
  uint64_t state = 1;
  std::vector<T> x = draw<T>(rows * stride, state), dy = draw<T>(rows * dy_stride, state);
  const std::vector<T> weight = draw<T>(n * m, state), bias = draw<T>(n, state);
  std::vector<uint8_t> mask(static_cast<size_t>(rows), 1);
  if (masked) {
    for (size_t i = 0; i < mask.size(); ++i) mask[i] = i % 40 < 17 && i % 7 != 3;
    spoil(x, stride, mask);
    spoil(dy, dy_stride, mask);
  }
  const LinearRows shape{rows, m, n, masked ? mask.data() : nullptr, wide};
  std::vector<double> dweight(static_cast<size_t>(n * m)), dbias(static_cast<size_t>(n));
  std::vector<T> first;
  for (int count : {1, 3}) {
    std::vector<T> y(static_cast<size_t>(rows * n), T(7)), dx(static_cast<size_t>(rows * m), T(7));
    std::vector<T> dw(weight.size(), T(7)), db(bias.size(), T(7));
    cpu::linear_rows(shape, x.data(), stride, weight.data(), bias.data(), y.data(), threads(count));
    cpu::linear_rows_backward(shape, dy.data(), dy_stride, x.data(), stride, weight.data(), dx.data(),
                              dw.data(), db.data(), threads(count));
    if (count > 1) {
      EXPECT(dw == first);
      continue;
    }
    first = dw;
    for (int64_t i = 0; i < rows; ++i) {
      const bool valid = mask[static_cast<size_t>(i)] != 0;
      const T* row = x.data() + i * stride;
      const T* g = dy.data() + i * dy_stride;
      for (int64_t k = 0; k < n; ++k) {
        double sum = bias[static_cast<size_t>(k)];
        for (int64_t j = 0; j < m; ++j) sum += double(row[j]) * weight[static_cast<size_t>(k * m + j)];
        EXPECT(std::abs(y[static_cast<size_t>(i * n + k)] - (valid ? sum : 0)) < tolerance);
        for (int64_t j = 0; valid && j < m; ++j)
          dweight[static_cast<size_t>(k * m + j)] += double(g[k]) * row[j];
        if (valid) dbias[static_cast<size_t>(k)] += g[k];
      }
      for (int64_t j = 0; j < m; ++j) {
        double sum = 0;
        for (int64_t k = 0; valid && k < n; ++k) sum += double(g[k]) * weight[static_cast<size_t>(k * m + j)];
        EXPECT(std::abs(dx[static_cast<size_t>(i * m + j)] - sum) < tolerance);
      }
    }
    for (size_t j = 0; j < dw.size(); ++j)
      EXPECT(std::abs(dw[j] - dweight[j]) < tolerance * (1 + double(rows)));
    for (size_t k = 0; k < db.size(); ++k)
      EXPECT(std::abs(db[k] - dbias[k]) < tolerance * (1 + double(rows)));
  }
  // Without one or the other.
  std::vector<T> dx(static_cast<size_t>(rows * m)), dw(weight.size()), db(bias.size());
  cpu::linear_rows_backward(shape, dy.data(), dy_stride, x.data(), stride, weight.data(), nullptr, dw.data(),
                            db.data(), threads(1));
  EXPECT(dw == first);
  cpu::linear_rows_backward(shape, dy.data(), dy_stride, x.data(), stride, weight.data(), dx.data(), nullptr,
                            nullptr, threads(1));
}

}  // namespace

int main() {
  for (cpu::Isa isa : cpu::supported_isas()) {
    setenv("HIERPOOL_CPU_ISA", std::string(cpu::isa_name(isa)).c_str(), 1);
    for (bool masked : {false, true}) {
      check<float>(100, 32, 10, masked);
      check<double>(100, 7, 33, masked);
      check<float>(2500, 5, 4, masked);  // several segments
      check<float>(1, 1, 1, masked);
      check<float>(0, 4, 3, masked);
    }
  }
  return 0;
}
