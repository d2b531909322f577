// Maxima over the rows of each group, and their gradients, against plain loops.
#include <cmath>
#include <limits>
#include <vector>

#include "hierpool/segment_max.h"
#include "testing.h"

using namespace hierpool;
using namespace hierpool::testing;

namespace {

enum class Order { equal, masked, sorted, any };

template <typename T>
void test_maxima(int64_t rows, int64_t groups, int64_t n, Order order) {
  uint64_t state = 5;
  std::vector<T> x(static_cast<size_t>(rows * n)), dy(static_cast<size_t>(groups * n));
  for (T& v : x) v = static_cast<T>(std::floor(4 * noise(state)));  // with ties
  for (T& v : dy) v = static_cast<T>(noise(state));
  if (!x.empty()) x[x.size() / 2] = std::numeric_limits<T>::quiet_NaN();
  std::vector<int64_t> group(static_cast<size_t>(rows));
  std::vector<uint8_t> mask(group.size());
  for (int64_t i = 0; i < rows; ++i) {
    // In order, every third group has no rows.
    const int64_t in_order = i * groups / rows / 3 * 3;
    const auto drawn = static_cast<int64_t>((noise(state) + 1) * 1e6) % groups;
    group[static_cast<size_t>(i)] = order == Order::sorted ? in_order
                                    : order == Order::any  ? drawn
                                                           : i / (rows / groups);
    mask[static_cast<size_t>(i)] = noise(state) > -0.5;
  }
  const bool masked = order == Order::masked, listed = order == Order::sorted || order == Order::any;
  const Segments s{
      listed ? group.data() : nullptr, masked ? mask.data() : nullptr, rows, groups, n, sizeof(T) == 8};
  std::vector<T> y(dy.size(), T(7)), y_again = y, dx(x.size(), T(7)), dx_again = dx;
  cpu::segment_max_fwd(s, x.data(), y.data(), threads(1));
  cpu::segment_max_fwd(s, x.data(), y_again.data(), threads(3));
  cpu::segment_max_bwd(s, x.data(), y.data(), dy.data(), dx.data(), threads(1));
  cpu::segment_max_bwd(s, x.data(), y.data(), dy.data(), dx_again.data(), threads(3));
  const auto same = [](T a, T b) { return a == b || (std::isnan(a) && std::isnan(b)); };
  for (size_t i = 0; i < y.size(); ++i) EXPECT(same(y[i], y_again[i]));
  for (size_t i = 0; i < dx.size(); ++i) EXPECT(same(dx[i], dx_again[i]));
  for (int64_t g = 0; g < groups; ++g) {
    for (int64_t j = 0; j < n; ++j) {
      T best = 0;
      int64_t seen = 0, holders = 0;
      const auto each = [&](const auto& run) {
        for (int64_t i = 0; i < rows; ++i) {
          const auto row = static_cast<size_t>(i);
          if (group[row] == g && (!masked || mask[row])) run(static_cast<size_t>(i * n + j));
        }
      };
      each([&](size_t at) {
        if (seen == 0 || x[at] > best || std::isnan(x[at])) best = std::isnan(best) && seen ? best : x[at];
        ++seen;
      });
      const auto place = static_cast<size_t>(g * n + j);
      EXPECT(same(y[place], best));
      each([&](size_t at) { holders += x[at] == best; });
      each([&](size_t at) {
        const T share = x[at] == best ? dy[place] / static_cast<T>(holders) : T(0);
        EXPECT(std::isnan(best) ? std::isnan(dx[at]) : dx[at] == share);
      });
    }
  }
  for (int64_t i = 0; i < rows && masked; ++i) {
    for (int64_t j = 0; j < n && !mask[static_cast<size_t>(i)]; ++j) {
      EXPECT(dx[static_cast<size_t>(i * n + j)] == 0);
    }
  }
}

}  // namespace

TEST(segment_max) {
  for_each_isa([](cpu::Isa) {
    for (const Order order : {Order::equal, Order::masked, Order::sorted, Order::any}) {
      test_maxima<float>(60, 12, 7, order);
      test_maxima<double>(60, 12, 33, order);
      test_maxima<float>(6000, 30, 50, order);  // several tasks
      test_maxima<double>(4000, 1, 40, order);  // parts of the columns
      test_maxima<float>(0, 2, 3, order);
    }
  });
}
