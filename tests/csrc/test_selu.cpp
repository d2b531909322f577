// SELU and its gradient against libm, on every instruction set and number of threads.
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "hierpool/selu.h"
#include "testing.h"

using namespace hierpool;
using namespace hierpool::testing;

namespace {

constexpr double kScale = 1.0507009873554804934, kAlpha = 1.6732632423543772848;

template <typename T>
void check(int64_t count, int workers) {
  constexpr bool wide = sizeof(T) == 8;
  const double unit = std::numeric_limits<T>::epsilon();
  std::vector<T> x(count), dy(x.size()), dx(x.size(), T(7));
  // Of both signs, from where exp(x) - 1 loses all its digits to where it is -1.
  for (size_t i = 0; i < x.size(); ++i) {
    const double size = std::pow(10.0, -9 + 12.0 * double(i) / double(x.size()));
    x[i] = T(i % 3 ? -size : size);
    dy[i] = T(1 + double(i % 5));
  }
  std::vector<T> y = x;
  cpu::selu_fwd(y.data(), count, wide, threads(workers));
  cpu::selu_bwd(dx.data(), dy.data(), y.data(), count, wide, threads(workers));
  for (size_t i = 0; i < x.size(); ++i) {
    const double exact = x[i] > 0 ? kScale * double(x[i]) : kScale * kAlpha * std::expm1(double(x[i]));
    EXPECT(std::abs(y[i] - exact) <= 4 * unit * std::abs(exact));
    const double slope = y[i] > 0 ? kScale : double(y[i]) + kScale * kAlpha;
    EXPECT(std::abs(dx[i] - dy[i] * slope) <= 4 * unit * double(dy[i]) * kScale * kAlpha);
  }
}

template <typename T>
void check_special() {
  constexpr bool wide = sizeof(T) == 8;
  const T infinity = std::numeric_limits<T>::infinity();
  std::vector<T> y{T(0), -infinity, infinity, T(NAN), T(-1e-30)};
  cpu::selu_fwd(y.data(), 5, wide, threads(1));
  EXPECT(y[0] == 0 && y[2] == infinity && std::isnan(y[3]) && y[4] < 0);
  EXPECT(std::abs(y[1] + kScale * kAlpha) < 1e-6);
  std::vector<T> g(5, T(1));
  cpu::selu_bwd(g.data(), g.data(), y.data(), 5, wide, threads(1));
  EXPECT(std::abs(g[0] - kScale * kAlpha) < 1e-6 && std::abs(g[1]) < 1e-6 && std::abs(g[2] - kScale) < 1e-6);
  EXPECT(std::isnan(g[3]));
}

}  // namespace

TEST(selu) {
  for_each_isa([](cpu::Isa) {
    for (int workers : {1, 3}) {
      for (int64_t count : {0, 1, 5, 1000, 40000}) {
        check<float>(count, workers);
        check<double>(count, workers);
      }
    }
    check_special<float>();
    check_special<double>();
  });
}
