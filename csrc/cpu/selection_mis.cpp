// Maximal independent sets: nodes are visited in a given order, and each that is not covered yet covers its surroundings.
#include <algorithm>
#include <vector>

#include "cpu/buffer.h"
#include "hierpool/selection.h"

namespace hierpool::cpu {
namespace {

template <typename I>
void visit(const Neighbours& graph, const int64_t* order, int64_t hops, int64_t* head) {
  const int64_t nodes = graph.a.rows;
  std::fill_n(head, nodes, -1);
  // The most hops that were left when a node was reached. It is expanded again only with more of them: what can be
  // reached with fewer is covered, by an earlier head.
  const Buffer<int64_t> left(nodes);
  std::fill_n(left.data(), nodes, -1);
  std::vector<int64_t> front, next;
  for (int64_t place = 0; place < nodes; ++place) {
    const int64_t first = order[place];
    if (head[first] >= 0) continue;
    front.assign(1, first);
    head[first] = first, left.data()[first] = hops;
    for (int64_t remaining = hops - 1; remaining >= 0 && !front.empty(); --remaining) {
      next.clear();
      for (const int64_t i : front) {
        for (const Csr* a : {&graph.a, &graph.transpose}) {
          if (a->rowptr == nullptr) continue;
          const auto* const rowptr = static_cast<const I*>(a->rowptr);
          for (I e = rowptr[i]; e < rowptr[i + 1]; ++e) {
            const int64_t j = static_cast<const I*>(a->col)[e];
            if (head[j] < 0) head[j] = first;
            if (left.data()[j] >= remaining) continue;
            left.data()[j] = remaining;
            if (remaining > 0) next.push_back(j);
          }
        }
      }
      front.swap(next);
    }
  }
}

}  // namespace

void maximal_independent_set(const Neighbours& graph, const int64_t* order, int64_t hops, int64_t* head) {
  if (graph.a.int64_index) {
    visit<int64_t>(graph, order, hops, head);
  } else {
    visit<int32_t>(graph, order, hops, head);
  }
}

}  // namespace hierpool::cpu
