// Connected components: sets of nodes that are merged into those of their first nodes.
#include <numeric>

#include "hierpool/selection.h"

namespace hierpool::cpu {
namespace {

// The first node of the set of node i, to which all nodes on the way are moved closer.
int64_t root(int64_t* first, int64_t i) {
  while (first[i] != i) {
    first[i] = first[first[i]];
    i = first[i];
  }
  return i;
}

template <typename I>
void merge(const Csr& a, const uint8_t* usable, int64_t* first) {
  const auto* const rowptr = static_cast<const I*>(a.rowptr);
  const auto* const col = static_cast<const I*>(a.col);
  std::iota(first, first + a.rows, int64_t{0});
  for (int64_t i = 0; i < a.rows; ++i) {
    for (I e = rowptr[i]; e < rowptr[i + 1]; ++e) {
      if (usable != nullptr && usable[e] == 0) continue;
      const int64_t one = root(first, i), other = root(first, col[e]);
      if (one < other) first[other] = one;
      if (other < one) first[one] = other;
    }
  }
  for (int64_t i = 0; i < a.rows; ++i) first[i] = first[first[i]];  // smaller nodes are done
}

}  // namespace

void components(const Csr& a, const uint8_t* usable, int64_t* first) {
  if (a.int64_index) {
    merge<int64_t>(a, usable, first);
  } else {
    merge<int32_t>(a, usable, first);
  }
}

}  // namespace hierpool::cpu
