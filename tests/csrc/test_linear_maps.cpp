// Linear maps of valid rows and their gradients against plain loops, on every instruction set and number of threads.
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "hierpool/linear_maps.h"
#include "testing.h"

using namespace hierpool;
using namespace hierpool::testing;

namespace {

template <typename T>
std::vector<T> draw(int64_t count, uint64_t& state) {
  std::vector<T> values(count);
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

// Maps one after another by plain loops: outputs of all of them for a row, the row itself first.
template <typename T>
struct Net {
  std::vector<int64_t> sizes;
  std::vector<std::vector<T>> weights, biases;
  std::vector<LinearMap> maps;

  Net(std::vector<int64_t> of, uint64_t& state) : sizes(std::move(of)) {
    for (size_t i = 1; i < sizes.size(); ++i) {
      weights.push_back(draw<T>(sizes[i] * sizes[i - 1], state));
      biases.push_back(draw<T>(sizes[i], state));
    }
    for (size_t i = 0; i < weights.size(); ++i)
      maps.push_back({sizes[i + 1], weights[i].data(), biases[i].data()});
  }

  std::vector<std::vector<double>> outputs(const T* row) const {
    std::vector<std::vector<double>> all{std::vector<double>(row, row + sizes[0])};
    for (size_t i = 0; i < weights.size(); ++i) {
      const std::vector<double>& before = all.back();
      std::vector<double> y(biases[i].begin(), biases[i].end());
      for (size_t k = 0; k < y.size(); ++k) {
        for (size_t j = 0; j < before.size(); ++j) y[k] += before[j] * weights[i][k * before.size() + j];
      }
      all.push_back(y);
    }
    return all;
  }

  // Adds to the gradients of weights and biases, and returns that of the row.
  std::vector<double> differentiate(const T* row, const T* dy, std::vector<std::vector<double>>& dw,
                                    std::vector<std::vector<double>>& db) const {
    const auto all = outputs(row);
    std::vector<double> g(dy, dy + sizes.back());
    for (size_t i = weights.size(); i-- > 0;) {
      const std::vector<double>& before = all[i];
      std::vector<double> next(before.size(), 0.0);
      for (size_t k = 0; k < g.size(); ++k) {
        db[i][k] += g[k];
        for (size_t j = 0; j < before.size(); ++j) {
          dw[i][k * before.size() + j] += g[k] * before[j];
          next[j] += g[k] * weights[i][k * before.size() + j];
        }
      }
      g = next;
    }
    return g;
  }
};

template <typename T>
struct Gradients {
  std::vector<std::vector<T>> weights, biases;
  std::vector<LinearMapGradient> places;

  explicit Gradients(const Net<T>& net) : weights(net.weights), biases(net.biases) {
    for (size_t i = 0; i < weights.size(); ++i) places.push_back({weights[i].data(), biases[i].data()});
  }
};

template <typename T>
void check(int64_t rows, std::vector<int64_t> sizes, bool masked) {
  constexpr bool wide = sizeof(T) == 8;
  const double tolerance = (wide ? 1e-12 : 1e-4) * (sizes.size() > 2 ? 20 : 1);
  const int64_t m = sizes.front(), n = sizes.back(), stride = m + 3, dy_stride = n + 1;
  uint64_t state = 1;
  const Net<T> net(sizes, state);
  std::vector<T> x = draw<T>(rows * stride, state), dy = draw<T>(rows * dy_stride, state);
  std::vector<uint8_t> mask(rows, 1);
  if (masked) {
    for (size_t i = 0; i < mask.size(); ++i) mask[i] = i % 40 < 17 && i % 7 != 3;
    spoil(x, stride, mask);
    spoil(dy, dy_stride, mask);
  }
  const LinearMaps shape{
      rows, m, masked ? mask.data() : nullptr, wide, net.maps.data(), static_cast<int64_t>(net.maps.size())};
  std::vector<std::vector<double>> dw, db;
  for (const auto& w : net.weights) dw.emplace_back(w.size(), 0.0);
  for (const auto& b : net.biases) db.emplace_back(b.size(), 0.0);
  Gradients<T> first(net);
  for (int count : {1, 3}) {
    std::vector<T> y(rows * n, T(7)), dx(rows * m, T(7));
    std::vector<T> added(dx.size(), T(7));
    Gradients<T> grads(net);
    cpu::linear_maps_fwd(shape, x.data(), stride, y.data(), threads(count));
    cpu::linear_maps_bwd(shape, dy.data(), dy_stride, x.data(), stride, dx.data(), false, grads.places.data(),
                         threads(count));
    cpu::linear_maps_bwd(shape, dy.data(), dy_stride, x.data(), stride, added.data(), true, nullptr,
                         threads(count));
    for (size_t i = 0; i < dx.size(); ++i) EXPECT(std::abs(added[i] - (7 + dx[i])) < tolerance);
    if (count > 1) {
      EXPECT(grads.weights == first.weights && grads.biases == first.biases);
      continue;
    }
    for (int64_t i = 0; i < rows; ++i) {
      const bool valid = mask[i] != 0;
      std::vector<double> out(n, 0.0), g(m, 0.0);
      if (valid) {
        out = net.outputs(x.data() + i * stride).back();
        g = net.differentiate(x.data() + i * stride, dy.data() + i * dy_stride, dw, db);
      }
      for (size_t k = 0; k < out.size(); ++k)
        EXPECT(std::abs(y[static_cast<size_t>(i * n) + k] - out[k]) < tolerance);
      for (size_t j = 0; j < g.size(); ++j)
        EXPECT(std::abs(dx[static_cast<size_t>(i * m) + j] - g[j]) < tolerance);
    }
    const double sums = tolerance * (1 + double(rows));
    for (size_t map = 0; map < dw.size(); ++map) {
      for (size_t j = 0; j < dw[map].size(); ++j) EXPECT(std::abs(grads.weights[map][j] - dw[map][j]) < sums);
      for (size_t k = 0; k < db[map].size(); ++k) EXPECT(std::abs(grads.biases[map][k] - db[map][k]) < sums);
    }
    first.weights = grads.weights, first.biases = grads.biases;
  }
  // Without the gradient of the rows.
  Gradients<T> grads(net);
  cpu::linear_maps_bwd(shape, dy.data(), dy_stride, x.data(), stride, nullptr, false, grads.places.data(),
                       threads(1));
  EXPECT(grads.weights == first.weights && grads.biases == first.biases);
}

}  // namespace

TEST(linear_maps) {
  for_each_isa([](cpu::Isa) {
    for (bool masked : {false, true}) {
      check<float>(100, {32, 10}, masked);
      check<float>(100, {32, 32, 20}, masked);
      check<double>(100, {7, 33}, masked);
      check<double>(100, {7, 5, 9, 4}, masked);
      check<float>(2500, {5, 4}, masked);  // several segments
      check<float>(1, {1, 1}, masked);
      check<float>(0, {4, 3}, masked);
    }
  });
}
