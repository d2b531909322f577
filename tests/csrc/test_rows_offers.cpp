// The best offer of a row against a plain loop, for every instruction set this machine has. Arrays have exactly the size
// of the contract, so that the address sanitizer sees every access beyond them.
#include <limits>
#include <random>
#include <vector>

#include "cpu/row_kernels.h"
#include "testing.h"

using namespace hierpool;
using namespace hierpool::cpu;

namespace {

// Values are drawn from `different` numbers, -inf and inf; what is held, too.
template <typename T>
void test_best_offer(const RowKernels<T>& kernels, int64_t n, int different, int32_t own) {
  constexpr T kInf = std::numeric_limits<T>::infinity();
  constexpr int32_t kNodes = 9;
  std::mt19937 random(static_cast<unsigned>(100 * n + different));
  const auto draw = [&] {
    const int number = static_cast<int>(random() % static_cast<unsigned>(different + 2));
    return number == different ? kInf : number > different ? -kInf : T(number) - T(0.5) * T(different);
  };
  std::vector<T> held(kNodes), value(static_cast<size_t>(n));
  std::vector<int32_t> col(static_cast<size_t>(n));
  for (T& x : held) x = draw();
  for (T& x : value) x = draw();
  for (int32_t& j : col) j = static_cast<int32_t>(random() % kNodes);
  T largest = -kInf;
  int64_t places = 0;
  bool refused = false;
  for (size_t e = 0; e < value.size(); ++e) {
    const T other = held[static_cast<size_t>(col[e])];
    if (col[e] == own || value[e] == -kInf) continue;
    refused |= value[e] == other;
    if (!(value[e] > other) || value[e] < largest) continue;
    places = value[e] > largest ? 1 : places + 1;
    largest = value[e];
  }
  const Offer<T> best = kernels.best_offer(held.data(), col.data(), value.data(), n, own);
  EXPECT(best.value == largest);
  EXPECT((best.node < 0) == (places == 0));
  EXPECT(best.tied || (!refused && places < 2));
  if (different == 1'000'000 && places < 2) EXPECT(best.tied == refused);
  if (best.node < 0) return;
  bool found = false;
  for (size_t e = 0; e < value.size(); ++e) {
    found |= col[e] == best.node && value[e] == largest && largest > held[static_cast<size_t>(col[e])];
  }
  EXPECT(found && best.node != own);
}

template <typename T>
void test_rows(const RowKernels<T>& kernels) {
  for (int64_t n = 0; n < 40; ++n) {
    for (int different : {1, 5, 1'000'000}) {
      for (int32_t own : {-1, 3}) test_best_offer(kernels, n, different, own);
    }
  }
}

}  // namespace

TEST(best_offers) {
  for (Isa isa : supported_isas()) {
    test_rows(row_kernels<float>(isa));
    test_rows(row_kernels<double>(isa));
  }
}
