// Maximal independent sets: nodes are visited by priority, and each that is not covered yet covers its surroundings.
#include <algorithm>
#include <vector>

#include "cpu/buffer.h"
#include "cpu/float_keys.h"
#include "cpu/hash.h"
#include "cpu/radix_sort.h"
#include "hierpool/selection.h"

namespace hierpool::cpu {
namespace {

// The nodes in descending order of their priority, those of equal priority in the order of their hashes.
template <typename T>
std::vector<int64_t> visiting_order(const Blocks& blocks, const T* priority, uint64_t seed) {
  using Keys = FloatKeys<T>;
  using Key = typename Keys::Key;
  constexpr int64_t kComparison = 1 << 12;
  const int64_t nodes = blocks.ptr[blocks.graphs];
  std::vector<Item<uint64_t>> hashed(static_cast<size_t>(nodes));
  const uint64_t salt = mix(seed);
  for (int64_t b = 0; b < blocks.graphs; ++b) {
    for (int64_t i = blocks.ptr[b]; i < blocks.ptr[b + 1]; ++i) {
      hashed[static_cast<size_t>(i)] = {node_hash(salt, i - blocks.ptr[b]), i};
    }
  }
  const auto key = [&](int64_t i) { return priority ? static_cast<Key>(~Keys::key(priority[i])) : Key{0}; };
  std::vector<int64_t> order(static_cast<size_t>(nodes));
  const auto write = [&](const auto& items) {
    for (size_t i = 0; i < order.size(); ++i) order[i] = items[i].row;
  };
  if (nodes <= kComparison) {
    std::sort(hashed.begin(), hashed.end(), [&](const auto& a, const auto& b) {
      const Key one = key(a.row), other = key(b.row);
      return one != other ? one < other : a.key != b.key ? a.key < b.key : a.row < b.row;
    });
    write(hashed);
    return order;
  }
  radix_sort(hashed.data(), nodes);
  std::vector<Item<Key>> items(static_cast<size_t>(nodes));
  for (size_t i = 0; i < items.size(); ++i) items[i] = {key(hashed[i].row), hashed[i].row};
  radix_sort(items.data(), nodes);
  write(items);
  return order;
}

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

template <typename T>
bool maximal_independent_set(const Neighbours& graph, const Blocks& blocks, const T* priority, int64_t hops,
                             uint64_t seed, int64_t* head) {
  const int64_t nodes = graph.a.rows;
  if (priority && std::any_of(priority, priority + nodes, [](T p) { return p != p; })) return false;
  const std::vector<int64_t> order = visiting_order(blocks, priority, seed);
  if (graph.a.int64_index) {
    visit<int64_t>(graph, order.data(), hops, head);
  } else {
    visit<int32_t>(graph, order.data(), hops, head);
  }
  return true;
}

template bool maximal_independent_set(const Neighbours&, const Blocks&, const float*, int64_t, uint64_t,
                                      int64_t*);
template bool maximal_independent_set(const Neighbours&, const Blocks&, const double*, int64_t, uint64_t,
                                      int64_t*);

}  // namespace hierpool::cpu
