// Stacks of GraphSAGE layers against plain loops and their difference quotients, on every instruction set.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "hierpool/sage_stack.h"
#include "testing.h"

using namespace hierpool;
using namespace hierpool::testing;

namespace {

using Numbers = std::vector<double>;

constexpr int64_t kInputs = 3, kHidden = 5, kOutputs = 2, kWidth = kHidden + kOutputs;
constexpr double kEps = 1e-3, kMomentum = 0.3;

// Two layers with all weights and a norm between them. A is dense, of `graphs` matrices, or sparse of one.
struct Problem {
  bool sparse, mean, aggregate_first, normalize, training;
  int64_t graphs, nodes;
  std::vector<uint8_t> valid;
  Numbers x, a, running, dy;
  std::vector<Numbers> weights;  // relation, root, bias, gain, shift, relation, root, bias

  int64_t rows() const { return graphs * nodes; }
  bool is_valid(int64_t i) const { return valid.empty() || valid[i]; }
};

Problem draw(bool sparse, int64_t graphs, int64_t nodes, bool holes) {
  Problem p{sparse, true, false, true, true, graphs, nodes, {}, {}, {}, {}, {}, {}};
  uint64_t state = 7;
  const auto fill = [&](Numbers& to, int64_t count) {
    to.resize(count);
    for (double& v : to) v = noise(state);
  };
  fill(p.x, p.rows() * kInputs);
  fill(p.a, p.rows() * nodes);
  for (double& v : p.a) v = v > 0 ? v : 0;
  fill(p.dy, p.rows() * kWidth);
  fill(p.running, 2 * kHidden);
  for (double& v : p.running) v = std::abs(v) + 0.5;
  const int64_t sizes[] = {kHidden * kInputs,  kHidden * kInputs,  kHidden, kHidden, kHidden,
                           kOutputs * kHidden, kOutputs * kHidden, kOutputs};
  for (int64_t size : sizes) fill(p.weights.emplace_back(), size);
  for (int64_t i = 0; i < p.rows() && holes; ++i) p.valid.push_back(i % 3 != 1);
  return p;
}

// h of one layer, all nodes, of y[.., ld] with `inputs` elements.
Numbers convolved(const Problem& p, const double* y, int64_t ld, int64_t inputs, int64_t outputs,
                  const Numbers* w) {
  Numbers h(p.rows() * outputs);
  for (int64_t i = 0; i < p.rows(); ++i) {
    const int64_t first = i / p.nodes * p.nodes;
    double degree = 0;
    Numbers sum(inputs);
    for (int64_t j = first; j < first + p.nodes; ++j) {
      if (!p.is_valid(j)) continue;
      const double entry = p.a[i * p.nodes + j - first];
      degree += entry;
      for (int64_t c = 0; c < inputs; ++c) sum[c] += entry * y[j * ld + c];
    }
    for (int64_t o = 0; o < outputs; ++o) {
      double& value = h[i * outputs + o] = w[2][o];
      for (int64_t c = 0; c < inputs; ++c) {
        value += w[0][o * inputs + c] * sum[c] / (p.mean ? std::max(1.0, degree) : 1.0);
        value += w[1][o * inputs + c] * y[i * ld + c];
      }
    }
    double length = 0;
    for (int64_t o = 0; o < outputs; ++o) length += h[i * outputs + o] * h[i * outputs + o];
    length = std::max(std::sqrt(length), 1e-12);
    for (int64_t o = 0; o < outputs && p.normalize; ++o) h[i * outputs + o] /= length;
  }
  return h;
}

struct Result {
  Numbers y, updated;
};

Result plain(const Problem& p) {
  Result found{Numbers(p.rows() * kWidth), p.running};
  Numbers h = convolved(p, p.x.data(), kInputs, kInputs, kHidden, p.weights.data());
  for (int64_t o = 0; o < kHidden; ++o) {
    double count = 0, mean = 0, squares = 0;
    const auto each = [&](auto use) {
      for (int64_t i = 0; i < p.rows(); ++i) {
        if (p.is_valid(i)) use(h[i * kHidden + o]);
      }
    };
    each([&](double& v) { v = std::max(v, 0.0), mean += v, ++count; });
    mean /= count;
    each([&](double v) { squares += (v - mean) * (v - mean); });
    double variance = squares / count;
    if (p.training) {
      found.updated[o] += kMomentum * (mean - p.running[o]);
      found.updated[kHidden + o] += kMomentum * (squares / (count - 1) - p.running[kHidden + o]);
    } else {
      mean = p.running[o], variance = p.running[kHidden + o];
    }
    const double scale = p.weights[3][o] / std::sqrt(variance + kEps);
    each([&](double& v) { v = (v - mean) * scale + p.weights[4][o]; });
  }
  const Numbers last = convolved(p, h.data(), kHidden, kHidden, kOutputs, p.weights.data() + 5);
  for (int64_t i = 0; i < p.rows(); ++i) {
    if (!p.is_valid(i)) continue;
    std::copy_n(h.data() + i * kHidden, kHidden, found.y.data() + i * kWidth);
    std::copy_n(last.data() + i * kOutputs, kOutputs, found.y.data() + i * kWidth + kHidden);
  }
  return found;
}

double weighted(const Problem& p) {
  const Numbers y = plain(p).y;
  double sum = 0;
  for (size_t i = 0; i < y.size(); ++i) sum += y[i] * p.dy[i];
  return sum;
}

template <typename T>
std::vector<T> as(const Numbers& numbers) {
  return std::vector<T>(numbers.begin(), numbers.end());
}

template <typename T>
void expect_near(const std::vector<T>& got, const Numbers& expected, double tolerance) {
  EXPECT(got.size() == expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT(std::abs(static_cast<double>(got[i]) - expected[i]) <= tolerance * (1 + std::abs(expected[i])));
  }
}

// All results of the kernels: y, updated statistics, gradients of x, of A (dense) and of the weights.
template <typename T>
std::vector<std::vector<T>> run(const Problem& p, const Runtime& runtime) {
  std::vector<int32_t> rowptr{0}, col, rowptr_t{0}, col_t;
  std::vector<T> value, value_t;
  for (int64_t i = 0; i < p.nodes && p.sparse; ++i) {
    for (int64_t j = 0; j < p.nodes; ++j) {
      const double forth = p.a[i * p.nodes + j], back = p.a[j * p.nodes + i];
      if (forth != 0) col.push_back(j), value.push_back(static_cast<T>(forth));
      if (back != 0) col_t.push_back(j), value_t.push_back(static_cast<T>(back));
    }
    rowptr.push_back(static_cast<int32_t>(col.size()));
    rowptr_t.push_back(static_cast<int32_t>(col_t.size()));
  }
  const Csr csr{p.nodes, false, rowptr.data(), col.data(), value.data()};
  const Csr turned{p.nodes, false, rowptr_t.data(), col_t.data(), value_t.data()};
  const std::vector<T> x = as<T>(p.x), a = as<T>(p.a), running = as<T>(p.running), dy = as<T>(p.dy);
  std::vector<std::vector<T>> w, dw;
  for (const Numbers& one : p.weights) w.push_back(as<T>(one)), dw.push_back(std::vector<T>(one.size()));
  const SageLayer layers[] = {
      {kHidden, w[0].data(), w[1].data(), w[2].data(), w[3].data(), w[4].data()},
      {kOutputs, w[5].data(), w[6].data(), w[7].data(), nullptr, nullptr},
  };
  const SageLayerGradient gradients[] = {
      {dw[0].data(), dw[1].data(), dw[2].data(), dw[3].data(), dw[4].data()},
      {dw[5].data(), dw[6].data(), dw[7].data(), nullptr, nullptr},
  };
  SageGraphs graphs{&csr, &turned, nullptr, 0, 0, 0, nullptr};
  if (!p.sparse) {
    graphs = {nullptr,
              nullptr,
              a.data(),
              p.nodes * p.nodes,
              p.graphs,
              p.nodes,
              p.valid.empty() ? nullptr : p.valid.data()};
  }
  const SageStack stack{sizeof(T) == 8,    graphs,      kInputs,    layers,    2,   p.mean,
                        p.aggregate_first, p.normalize, p.training, kMomentum, kEps};
  const int64_t rows = cpu::sage_stack_rows(graphs);
  std::vector<T> u(rows * kWidth), lengths(2 * rows), moments(2 * kHidden), aggregated(rows * kInputs);
  const SageSaved saved{u.data(), lengths.data(), moments.data(), aggregated.data()};
  std::vector<T> y(dy.size(), T(9)), updated = running, dx(x.size(), T(9)),
                                     da(p.sparse ? col.size() : a.size(), T(9));
  cpu::sage_stack_fwd(stack, x.data(), kInputs, running.data(), y.data(), updated.data(), saved, runtime);
  cpu::sage_stack_bwd(stack, dy.data(), kWidth, x.data(), kInputs, saved, {dx.data(), da.data(), gradients},
                      runtime);
  std::vector<std::vector<T>> found{y, updated, dx, da};
  found.insert(found.end(), dw.begin(), dw.end());
  return found;
}

template <typename T>
void check(Problem p) {
  const double tolerance = sizeof(T) == 8 ? 1e-11 : 1e-4, of_quotients = sizeof(T) == 8 ? 1e-6 : 3e-3;
  const std::vector<std::vector<T>> got = run<T>(p, threads(1));
  const Result expected = plain(p);
  expect_near(got[0], expected.y, tolerance);
  expect_near(got[1], expected.updated, tolerance);
  const auto quotients = [&](Numbers& of, bool where_not_0) {
    Numbers found;
    for (double& v : of) {
      if (where_not_0 && v == 0) continue;
      const double kept = v, step = 1e-6;
      v = kept + step;
      const double above = weighted(p);
      v = kept - step;
      found.push_back((above - weighted(p)) / (2 * step));
      v = kept;
    }
    return found;
  };
  expect_near(got[2], quotients(p.x, false), of_quotients);
  expect_near(got[3], quotients(p.a, p.sparse), of_quotients);
  for (size_t i = 0; i < p.weights.size(); ++i)
    expect_near(got[4 + i], quotients(p.weights[i], false), of_quotients);
}

}  // namespace

TEST(sage_stack) {
  for_each_isa([](cpu::Isa) {
    for (int options = 0; options < 16; ++options) {
      for (bool sparse : {false, true}) {
        Problem p = draw(sparse, sparse ? 1 : 3, 7, !sparse && options % 3 != 0);
        p.mean = options & 1, p.aggregate_first = options & 2, p.normalize = options & 4,
        p.training = options & 8;
        check<double>(p);
        if (options % 5 == 0) check<float>(p);
      }
    }
  });
}

TEST(sage_stack_threads) {
  for (bool sparse : {false, true}) {
    const Problem p = draw(sparse, sparse ? 1 : 5, sparse ? 900 : 180, !sparse);
    EXPECT(run<float>(p, threads(1)) == run<float>(p, threads(3)));
  }
}
