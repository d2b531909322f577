// Soft pooling, dense and sparse, against plain loops, and its gradients against differences, on every instruction set.
#include <algorithm>
#include <cstring>

#include "cpu/csr_rows.h"
#include "hierpool/soft_pool.h"
#include "soft_pool_inputs.h"
#include "testing.h"

using namespace hierpool;
using namespace hierpool::testing;

namespace {

// Shapes around the vector lengths and around the sizes at which a graph is cut into tiles; B, R, N, K, F.
const Shape kShapes[] = {
    {1, 1, 1, 1, 1, 1.0, Valid::all, true, false},
    {3, 1, 5, 3, 2, 0.5, Valid::mask, true, false},
    {3, 1, 5, 3, 2, 0.5, Valid::mask, true, false, true},
    {2, 1, 17, 16, 7, 0.1, Valid::count, true, false},
    {2, 2, 33, 17, 33, 0.6, Valid::mask, false, false, true},
    {2, 1, 40, 31, 0, 0.3, Valid::count, false, true},
    {4, 1, 9, 2, 3, 0.0, Valid::mask, true, true},
    {0, 1, 4, 2, 3, 0.5, Valid::all, true, false},
    {0, 1, 4, 2, 3, 0.5, Valid::all, true, false, true},
    {2, 1, 0, 2, 3, 0.5, Valid::all, true, false},
    {2, 1, 515, 9, 9, 0.02, Valid::all, true, false},
    {1, 2, 760, 9, 5, 0.5, Valid::mask, false, false},
    {1, 1, 515, 50, 9, 0.5, Valid::all, true, false},
    {2, 1, 140, 3, 4, 0, Valid::count, true, false, true, true},
    {1, 2, 160, 3, 2, 0, Valid::mask, false, false, false, true},
    {1, 1, 600, 4, 3, 0, Valid::all, true, false, false, true},
    {1, 1, 600, 4, 3, 0, Valid::all, false, false, false, true},
    {4, 1, 17, 16, 7, 0.2, Valid::count, true, false, true, false, true},
    {3, 2, 33, 37, 18, 0.5, Valid::mask, false, false, false, false, true},
    {3, 1, 9, 5, 3, 0.5, Valid::mask, false, true, false, false, true},
    {2, 1, 515, 40, 9, 0.1, Valid::all, true, false, false, false, true},
    {2, 1, 560, 23, 5, 0.5, Valid::mask, false, false, false, false, true},
};

template <typename T>
void expect_close(const std::vector<T>& actual, const std::vector<double>& expected, double tolerance) {
  EXPECT(actual.size() == expected.size());
  double scale = 0;
  for (double value : expected) scale = std::max(scale, std::abs(value));
  for (size_t i = 0; i < expected.size(); ++i)
    EXPECT(std::abs(actual[i] - expected[i]) <= tolerance * (scale + 1e-3));
}

// A link loss of 1e-6 |A|^2 loses six digits to cancellation in double, where it is a difference of sums.
template <typename T>
double tolerance_of(const Shape& shape) {
  if (sizeof(T) == 4) return 3e-5;
  return shape.fits ? 1e-9 : 1e-11;
}

template <typename T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

// The sum of <weights[i], values[i]> over the outputs of the forward.
double objective(const Inputs<double>& in, const std::vector<double> (&weights)[kOutputs]) {
  const Outputs<double> out = plain_forward(in);
  double sum = 0;
  for (int i = 0; i < kOutputs; ++i) {
    for (size_t j = 0; j < weights[i].size(); ++j) sum += weights[i][j] * out.values[i][j];
  }
  return sum;
}

// The difference of the objective along one random direction of one input.
struct Difference {
  std::vector<double> direction;
  double slope = 0;

  Difference(Inputs<double>& in, std::vector<double>& input, const std::vector<double> (&weights)[kOutputs]) {
    std::mt19937 random(11);
    std::uniform_real_distribution<double> unit(-0.5, 0.5);
    constexpr double kStep = 1e-6;
    const std::vector<double> before = input;
    for (size_t i = 0; i < input.size(); ++i) direction.push_back(unit(random));
    for (double step : {kStep, -kStep}) {
      for (size_t i = 0; i < input.size(); ++i) input[i] = before[i] + step * direction[i];
      slope += objective(in, weights) / (2 * step);
    }
    input = before;
  }

  void expect(const std::vector<double>& gradient) const {
    double along = 0, scale = 1;
    for (size_t i = 0; i < direction.size(); ++i) {
      EXPECT(std::isfinite(gradient[i]));
      along += gradient[i] * direction[i];
      scale += std::abs(gradient[i] * direction[i]);
    }
    EXPECT(std::abs(slope - along) <= 1e-5 * scale);
  }
};

// What the plain loops say of a batch, once for all instruction sets and types.
struct Expected {
  Inputs<double> in;
  Outputs<double> out;
  std::vector<double> weights[kOutputs];  // upstream gradients of the outputs

  explicit Expected(const Shape& shape) : in(shape, 5), out(plain_forward(in)) {
    std::mt19937 random(3);
    std::uniform_real_distribution<double> unit(-1.0, 1.0);
    for (int i = 0; i < kOutputs; ++i) {
      for (size_t j = 0; j < out.values[i].size(); ++j) weights[i].push_back(unit(random));
    }
  }
};

template <typename T>
void test_forward(const Expected& expected, cpu::Isa isa) {
  const Shape& shape = expected.in.shape;
  const Inputs<T> in(shape, 5);
  const double tolerance = tolerance_of<T>(shape);
  const Outputs<T> one_thread = forward(in, runtime(1, false), -1);
  for (bool blas : {false, true}) {
    if (blas && isa != cpu::Isa::scalar) continue;  // others multiply matrices of these sizes themselves
    for (bool bytes : {false, true}) {
      const Outputs<T> out = forward(in, runtime(3, blas), shape.symmetric ? 1 : -1, bytes);
      for (int i = 0; i < kOutputs; ++i) expect_close(out.values[i], expected.out.values[i], tolerance);
    }
  }
  const Outputs<T> three_threads = forward(in, runtime(3, false), -1);
  for (int i = 0; i < kOutputs; ++i) EXPECT(same_bits(one_thread.values[i], three_threads.values[i]));
  if (shape.symmetric) {
    for (uint8_t flag : one_thread.is_symmetric) EXPECT(flag == 1);
  }
}

template <typename T>
struct Gradients {
  std::vector<T> logits, x, adj;
};

// Gradients of the objective.
template <typename T>
Gradients<T> backward(const Inputs<T>& in, const std::vector<T> (&weights)[kOutputs],
                      const Runtime& runtime) {
  const Outputs<T> out = forward(in, runtime, -1);
  Gradients<T> grads{in.logits, in.x, in.adj};
  SoftPoolBackward args{
      in.batch(),           out.values[0].data(), out.values[3].data(),    out.values[5].data(),
      out.values[7].data(), out.m.data(),         out.is_symmetric.data(), weights[0].data(),
      weights[1].data(),    weights[2].data(),    weights[3].data(),       weights[4].data(),
      weights[5].data(),    weights[6].data(),    weights[7].data(),       grads.logits.data(),
      grads.x.data(),       grads.adj.data()};
  cpu::soft_pool_bwd(args, in.adjacency(false), runtime);
  // With the degrees that the forward saved.
  const Gradients<T> found = grads;
  args.degree = out.degree.data();
  cpu::soft_pool_bwd(args, in.adjacency(false), runtime);
  EXPECT(same_bits(grads.logits, found.logits) && same_bits(grads.x, found.x) &&
         same_bits(grads.adj, found.adj));
  return grads;
}

// float follows double, and the number of threads changes no bit.
void test_float_backward(const Expected& expected, const Gradients<double>& grads) {
  const Inputs<float> in(expected.in.shape, 5);
  std::vector<float> weights[kOutputs];
  for (int i = 0; i < kOutputs; ++i)
    weights[i].assign(expected.weights[i].begin(), expected.weights[i].end());
  const Gradients<float> one = backward(in, weights, runtime(1, false));
  const Gradients<float> three = backward(in, weights, runtime(3, false));
  expect_close(one.logits, grads.logits, 1e-3);
  expect_close(one.x, grads.x, 1e-4);
  expect_close(one.adj, grads.adj, 1e-3);
  EXPECT(same_bits(one.logits, three.logits) && same_bits(one.x, three.x) && same_bits(one.adj, three.adj));
}

// The rows of the valid nodes of a tensor [B N, width].
template <typename T, typename I>
std::vector<double> rows_of(const Ragged<T, I>& ragged, const std::vector<double>& padded, int64_t width) {
  std::vector<double> rows;
  for (int64_t node : ragged.nodes) {
    rows.insert(rows.end(), padded.data() + node * width, padded.data() + (node + 1) * width);
  }
  return rows;
}

// A ragged batch against the padded one it was made from, whose gradients were compared with differences.
template <typename T, typename I>
void test_ragged(const Expected& expected, const Gradients<double>& padded) {
  const Shape& shape = expected.in.shape;
  const Inputs<T> in(shape, 5);
  const Ragged<T, I> ragged(in);
  Outputs<double> outputs = expected.out;
  outputs.values[0] = rows_of(ragged, outputs.values[0], shape.K);
  std::vector<T> weights[kOutputs];
  for (int i = 0; i < kOutputs; ++i) {
    const std::vector<double> rows =
        i == 0 ? rows_of(ragged, expected.weights[0], shape.K) : expected.weights[i];
    weights[i].assign(rows.begin(), rows.end());
  }
  std::vector<double> entries;
  for (int64_t entry : ragged.entries) entries.push_back(padded.adj[entry]);
  const double tolerance = tolerance_of<T>(shape);
  for (bool symmetric : {false, true}) {
    if (symmetric && !shape.symmetric) continue;
    const Outputs<T> out = forward(ragged, runtime(1, false), symmetric, symmetric);
    for (int i = 0; i < kOutputs; ++i) expect_close(out.values[i], outputs.values[i], tolerance);
    for (bool save_m : {false, true}) {
      const Outputs<T> other = forward(ragged, runtime(3, false), symmetric, symmetric, save_m);
      for (int i = 0; i < kOutputs; ++i) EXPECT(same_bits(out.values[i], other.values[i]));
    }
    for (int threads : {1, 3}) {
      std::vector<T> dlogits(ragged.logits.size()), dx(ragged.x.size()), dvalue(ragged.col.size());
      SoftPoolBackward args{ragged.batch(),
                            out.values[0].data(),
                            out.values[3].data(),
                            out.values[5].data(),
                            out.values[7].data(),
                            out.m.data(),
                            nullptr,
                            weights[0].data(),
                            weights[1].data(),
                            weights[2].data(),
                            weights[3].data(),
                            weights[4].data(),
                            weights[5].data(),
                            weights[6].data(),
                            weights[7].data(),
                            dlogits.data(),
                            dx.data(),
                            dvalue.data()};
      if (threads > 1) args.degree = out.degree.data();
      cpu::soft_pool_bwd(args, ragged.adjacency(symmetric, symmetric), runtime(threads, false));
      const double bound = sizeof(T) == 8 ? 1e-9 : 1e-3;
      expect_close(dlogits, rows_of(ragged, padded.logits, shape.K), bound);
      expect_close(dx, rows_of(ragged, padded.x, shape.F), bound);
      expect_close(dvalue, entries, bound);
    }
  }
}

void test_shape(const Shape& shape) {
  Expected expected(shape);
  Inputs<double>& in = expected.in;
  const Difference logits(in, in.logits, expected.weights), x(in, in.x, expected.weights),
      adj(in, in.adj, expected.weights);
  for_each_isa([&](cpu::Isa isa) {
    test_forward<float>(expected, isa);
    test_forward<double>(expected, isa);
    const Gradients<double> grads = backward(in, expected.weights, runtime(3, true));
    logits.expect(grads.logits);
    x.expect(grads.x);
    adj.expect(grads.adj);
    test_float_backward(expected, grads);
    // Means of a ragged batch differ if its largest graph is smaller than the padding.
    if (shape.R != 1 || shape.mean) return;
    test_ragged<float, int32_t>(expected, grads);
    test_ragged<double, int64_t>(expected, grads);
  });
}

// A hub whose row is cut into parts, among rows of one entry: its neighbours' rows are summed all the same.
void test_hub() {
  constexpr int64_t kLeaves = (int64_t{1} << 15) * 2 + 5;
  std::vector<int32_t> rowptr{0}, col;
  for (int64_t leaf = 1; leaf <= kLeaves; ++leaf) col.push_back(static_cast<int32_t>(leaf));
  rowptr.push_back(static_cast<int32_t>(col.size()));
  for (int64_t leaf = 1; leaf <= kLeaves; ++leaf) {
    col.push_back(0);
    rowptr.push_back(static_cast<int32_t>(col.size()));
  }
  std::vector<double> rows(kLeaves + 1, 1.0), out(kLeaves + 1);
  rows[0] = 3;
  const cpu::CsrProduct<double> a({kLeaves + 1, false, rowptr.data(), col.data(), nullptr},
                                  cpu::row_kernels<double>(cpu::isa_in_force()));
  const auto hubs = a.multiply_hubs(runtime(3, false), 1, rows.data(), 1, 0, kLeaves + 1);
  EXPECT(hubs.rows == std::vector<int64_t>{0});
  a.multiply(out.data(), 1, 1, rows.data(), 1, 0, kLeaves + 1, hubs);
  EXPECT(out[0] == static_cast<double>(kLeaves));
  for (int64_t leaf = 1; leaf <= kLeaves; ++leaf) EXPECT(out[leaf] == 3);
  const std::vector<int64_t> bounds = a.cut(0, kLeaves + 1, 256);
  EXPECT(bounds[1] == 1 && bounds[2] == 257 && bounds.back() == kLeaves + 1);
}

// One entry on one side only makes a graph asymmetric, wherever it lies.
void test_symmetry_is_found_out_exactly() {
  const Shape shape{1, 1, 70, 3, 2, 0.2, Valid::all, true, false};
  for (int64_t i : {0, 15, 31, 32, 68}) {
    for (int64_t j : {int64_t{1}, int64_t{33}, int64_t{69}}) {
      if (i == j) continue;
      Inputs<float> in(shape, 9);
      float& entry = in.adj[i * 70 + j];
      entry = 1 - entry;
      EXPECT(forward(in, runtime(2, false), -1).is_symmetric[0] == 0);
    }
  }
}

}  // namespace

TEST(soft_pool) {
  for (const Shape& shape : kShapes) test_shape(shape);
}

TEST(soft_pool_hubs) {
  for_each_isa([](cpu::Isa) { test_hub(); });
}

TEST(soft_pool_symmetry) {
  for_each_isa([](cpu::Isa) { test_symmetry_is_found_out_exactly(); });
}
