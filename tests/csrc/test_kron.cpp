// The Kron reduction against Gaussian elimination of a dense matrix, for one thread and several.
#include <cmath>
#include <random>
#include <vector>

#include "hierpool/kron.h"
#include "testing.h"

using namespace hierpool;
using namespace hierpool::testing;

namespace {

struct Entries {
  std::vector<int64_t> row, col;
  std::vector<double> value;

  static void* allocate(void* context, KronReduction::Output output, int64_t count) {
    auto& self = *static_cast<Entries*>(context);
    const auto n = static_cast<size_t>(count);
    if (output == KronReduction::value) return self.value.resize(n), self.value.data();
    auto& indices = output == KronReduction::row ? self.row : self.col;
    return indices.resize(n), indices.data();
  }
};

template <typename I>
void test(size_t n, double density, bool weighted, bool keep_some) {
  std::mt19937 generator(static_cast<unsigned>(n));
  std::uniform_real_distribution<double> uniform;
  std::vector<std::vector<double>> weight(n, std::vector<double>(n));
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j <= i; ++j) {
      if (uniform(generator) < density) weight[i][j] = weight[j][i] = weighted ? uniform(generator) : 1;
    }
  }
  std::vector<I> rowptr{0}, col, place;
  std::vector<double> value;
  I kept = 0;
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) {
      if (weight[i][j] != 0) col.push_back(static_cast<I>(j)), value.push_back(weight[i][j]);
    }
    rowptr.push_back(static_cast<I>(col.size()));
    place.push_back(keep_some && uniform(generator) < 0.5 ? kept++ : -1);
  }
  auto whole = weight;
  for (size_t k = 0; k < n; ++k) whole[k][k] = 0;
  for (size_t k = 0; k < n; ++k) {
    if (place[k] >= 0) continue;
    double total = 0;
    for (double w : whole[k]) total += w;
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = 0; j < n; ++j) {
        if (i != j && total > 0 && i != k && j != k) whole[i][j] += whole[i][k] * whole[k][j] / total;
      }
    }
    for (size_t i = 0; i < n; ++i) whole[i][k] = whole[k][i] = 0;
  }
  for (int64_t several : {1, 3}) {
    Entries out;
    const Csr a{static_cast<int64_t>(n), sizeof(I) == 8, rowptr.data(), col.data(),
                weighted ? value.data() : nullptr};
    const KronReduction reduction{a, place.data(), int64_t{1} << 30, Entries::allocate, &out};
    const int64_t count = cpu::kron_reduction(reduction, threads(several));
    EXPECT(count == std::ssize(out.value));
    const auto m = static_cast<size_t>(kept);
    std::vector<std::vector<double>> found(m, std::vector<double>(m));
    for (size_t e = 0; e < out.value.size(); ++e) {
      found[static_cast<size_t>(out.row[e])][static_cast<size_t>(out.col[e])] += out.value[e];
    }
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = 0; j < n; ++j) {
        if (place[i] < 0 || place[j] < 0 || i == j) continue;
        const auto one = static_cast<size_t>(place[i]), other = static_cast<size_t>(place[j]);
        EXPECT(std::abs(weight[i][j] + found[one][other] - whole[i][j]) <= 1e-13 * (1 + whole[i][j]));
        EXPECT(found[one][other] == found[other][one]);
      }
    }
    if (count == 0) continue;
    Entries none;
    const KronReduction refused{a, place.data(), count - 1, Entries::allocate, &none};
    EXPECT(cpu::kron_reduction(refused, threads(several)) == count);
    EXPECT(none.value.empty());
  }
}

}  // namespace

TEST(kron) {
  for (bool weighted : {false, true}) {
    test<int32_t>(40, 0.08, weighted, true);
    test<int64_t>(30, 0.5, weighted, true);
    test<int32_t>(12, 0.3, weighted, false);
    test<int64_t>(1, 1, weighted, true);
    test<int32_t>(0, 1, weighted, true);
  }
}
