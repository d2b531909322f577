// Soft pooling, dense and sparse, against plain loops, its gradients against differences, for every instruction set this machine has.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "cpu/csr_rows.h"
#include "cpu/isa.h"
#include "expect.h"
#include "hierpool/soft_pool.h"
#include "soft_pool_problem.h"

using namespace hierpool;
using namespace hierpool::testing;

namespace {

// Shapes around the vector lengths and around the sizes at which a graph is cut into tiles; B, R, N, K, F.
const Shape kShapes[] = {
    {1, 1, 1, 1, 1, 1.0, Valid::all, true, false},
    {3, 1, 5, 3, 2, 0.5, Valid::mask, true, false, true},
    {2, 1, 17, 16, 7, 0.1, Valid::count, true, false},
    {2, 2, 33, 17, 33, 0.6, Valid::mask, false, false, true},
    {2, 1, 40, 31, 0, 0.3, Valid::count, false, true},
    {4, 1, 9, 2, 3, 0.0, Valid::mask, true, true},
    {0, 1, 4, 2, 3, 0.5, Valid::all, true, false, true},
    {2, 1, 0, 2, 3, 0.5, Valid::all, true, false},
    {1, 1, 530, 19, 9, 0.02, Valid::all, true, false},
    {2, 2, 540, 33, 5, 0.5, Valid::mask, false, false},
    {1, 1, 530, 70, 9, 0.5, Valid::all, true, false},
};

template <typename T>
void expect_close(const std::vector<T>& actual, const std::vector<double>& expected, double tolerance) {
  EXPECT(actual.size() == expected.size());
  double scale = 0;
  for (double value : expected) scale = std::max(scale, std::abs(value));
  for (size_t i = 0; i < expected.size(); ++i)
    EXPECT(std::abs(actual[i] - expected[i]) <= tolerance * (scale + 1e-3));
}

template <typename T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

template <typename T>
void test_forward(const Shape& shape) {
  const Inputs<T> in(shape, 7);
  const Outputs<double> expected = plain_forward(in);
  const double tolerance = sizeof(T) == 8 ? 1e-11 : 3e-5;
  const Outputs<T> one_thread = forward(in, runtime(1, false), -1);
  for (bool blas : {false, true}) {
    for (bool bytes : {false, true}) {
      const Outputs<T> out = forward(in, runtime(3, blas), shape.symmetric ? 1 : -1, bytes);
      for (int i = 0; i < kOutputs; ++i) expect_close(out.values[i], expected.values[i], tolerance);
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

// Gradients of sum_i <weights[i], values[i]> over the outputs of the forward.
template <typename T>
Gradients<T> backward(const Inputs<T>& in, const std::vector<T> (&weights)[kOutputs],
                      const Runtime& runtime) {
  const Outputs<T> out = forward(in, runtime, -1);
  Gradients<T> grads{in.logits, in.x, in.adj};
  SoftPoolBackward args{in.batch(),           out.values[0].data(), out.values[3].data(),
                        out.values[7].data(), out.m.data(),         out.is_symmetric.data(),
                        weights[0].data(),    weights[1].data(),    weights[2].data(),
                        weights[3].data(),    weights[4].data(),    weights[5].data(),
                        weights[6].data(),    weights[7].data(),    grads.logits.data(),
                        grads.x.data(),       grads.adj.data()};
  cpu::soft_pool_backward(args, in.adjacency(false), runtime);
  // With the degrees as the forward kept them.
  const Gradients<T> found = grads;
  args.degree = out.degree.data();
  cpu::soft_pool_backward(args, in.adjacency(false), runtime);
  EXPECT(same_bits(grads.logits, found.logits) && same_bits(grads.x, found.x) &&
         same_bits(grads.adj, found.adj));
  return grads;
}

double objective(const Inputs<double>& in, const std::vector<double> (&weights)[kOutputs]) {
  const Outputs<double> out = plain_forward(in);
  double sum = 0;
  for (int i = 0; i < kOutputs; ++i) {
    for (size_t j = 0; j < weights[i].size(); ++j) sum += weights[i][j] * out.values[i][j];
  }
  return sum;
}

// <gradient, direction> against the difference of the objective along one random direction of one input.
void expect_gradient(Inputs<double>& in, std::vector<double>& input, const std::vector<double>& gradient,
                     const std::vector<double> (&weights)[kOutputs]) {
  std::mt19937 random(11);
  std::uniform_real_distribution<double> unit(-0.5, 0.5);
  constexpr double kStep = 1e-6;
  const std::vector<double> kept = input;
  std::vector<double> direction;
  double slope = 0, scale = 1;
  for (size_t i = 0; i < kept.size(); ++i) {
    direction.push_back(unit(random));
    EXPECT(std::isfinite(gradient[i]));
    slope += gradient[i] * direction[i];
    scale += std::abs(gradient[i] * direction[i]);
  }
  for (size_t i = 0; i < kept.size(); ++i) input[i] = kept[i] + kStep * direction[i];
  const double above = objective(in, weights);
  for (size_t i = 0; i < kept.size(); ++i) input[i] = kept[i] - kStep * direction[i];
  const double below = objective(in, weights);
  input = kept;
  EXPECT(std::abs((above - below) / (2 * kStep) - slope) <= 1e-5 * scale);
}

void test_backward(const Shape& shape) {
  Inputs<double> in(shape, 5);
  std::mt19937 random(3);
  std::uniform_real_distribution<double> unit(-1.0, 1.0);
  std::vector<double> weights[kOutputs];
  std::vector<float> narrow_weights[kOutputs];
  const Outputs<double> out(shape);
  for (int i = 0; i < kOutputs; ++i) {
    for (size_t j = 0; j < out.values[i].size(); ++j) weights[i].push_back(unit(random));
    narrow_weights[i].assign(weights[i].begin(), weights[i].end());
  }
  const Gradients<double> grads = backward(in, weights, runtime(3, true));
  expect_gradient(in, in.logits, grads.logits, weights);
  expect_gradient(in, in.x, grads.x, weights);
  expect_gradient(in, in.adj, grads.adj, weights);

  // float follows double, and the number of threads changes no bit.
  const Inputs<float> narrow(shape, 5);
  const Gradients<float> one = backward(narrow, narrow_weights, runtime(1, false));
  const Gradients<float> three = backward(narrow, narrow_weights, runtime(3, false));
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
void test_ragged(Shape shape) {
  if (shape.R != 1) return;
  shape.mean = false;  // the largest graph may be smaller than the padding
  const Inputs<T> in(shape, 5);
  const Inputs<double> wide(shape, 5);
  const Ragged<T, I> ragged(in);
  Outputs<double> expected = plain_forward(wide);
  expected.values[0] = rows_of(ragged, expected.values[0], shape.K);
  const double tolerance = sizeof(T) == 8 ? 1e-11 : 3e-5;
  for (bool symmetric : {false, true}) {
    if (symmetric && !shape.symmetric) continue;
    const Outputs<T> out = forward(ragged, runtime(1, false), symmetric, symmetric);
    for (int i = 0; i < kOutputs; ++i) expect_close(out.values[i], expected.values[i], tolerance);
    for (bool keep : {false, true}) {
      const Outputs<T> other = forward(ragged, runtime(3, false), symmetric, symmetric, keep);
      for (int i = 0; i < kOutputs; ++i) EXPECT(same_bits(out.values[i], other.values[i]));
    }
    std::mt19937 random(3);
    std::uniform_real_distribution<double> unit(-1.0, 1.0);
    std::vector<double> weights[kOutputs];
    std::vector<T> of_ragged[kOutputs];
    const Outputs<double> sizes(shape);
    for (int i = 0; i < kOutputs; ++i) {
      for (size_t j = 0; j < sizes.values[i].size(); ++j) weights[i].push_back(unit(random));
      const std::vector<double> rows = i == 0 ? rows_of(ragged, weights[0], shape.K) : weights[i];
      of_ragged[i].assign(rows.begin(), rows.end());
    }
    const Gradients<double> padded = backward(wide, weights, runtime(1, false));
    std::vector<double> entries;
    for (int64_t entry : ragged.entries) entries.push_back(padded.adj[entry]);
    for (int threads : {1, 3}) {
      std::vector<T> dlogits(ragged.logits.size()), dx(ragged.x.size()), dvalue(ragged.col.size());
      SoftPoolBackward args{ragged.batch(),       out.values[0].data(),
                            out.values[3].data(), out.values[7].data(),
                            out.m.data(),         nullptr,
                            of_ragged[0].data(),  of_ragged[1].data(),
                            of_ragged[2].data(),  of_ragged[3].data(),
                            of_ragged[4].data(),  of_ragged[5].data(),
                            of_ragged[6].data(),  of_ragged[7].data(),
                            dlogits.data(),       dx.data(),
                            dvalue.data()};
      if (threads > 1) args.degree = out.degree.data();
      cpu::soft_pool_backward(args, ragged.adjacency(symmetric, symmetric), runtime(threads, false));
      const double bound = sizeof(T) == 8 ? 1e-9 : 1e-3;
      expect_close(dlogits, rows_of(ragged, padded.logits, shape.K), bound);
      expect_close(dx, rows_of(ragged, padded.x, shape.F), bound);
      expect_close(dvalue, entries, bound);
    }
  }
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

int main() {
  for (cpu::Isa isa : cpu::supported_isas()) {
    const std::string name(cpu::isa_name(isa));
    setenv("HIERPOOL_CPU_ISA", name.c_str(), 1);
    for (const Shape& shape : kShapes) {
      std::printf("%s: B %d, R %d, N %d, K %d, F %d\n", name.c_str(), static_cast<int>(shape.B),
                  static_cast<int>(shape.R), static_cast<int>(shape.N), static_cast<int>(shape.K),
                  static_cast<int>(shape.F));
      std::fflush(stdout);
      test_forward<float>(shape);
      test_forward<double>(shape);
      test_backward(shape);
      test_ragged<float, int32_t>(shape);
      test_ragged<double, int64_t>(shape);
    }
    test_hub();
    test_symmetry_is_found_out_exactly();
  }
  return 0;
}
