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

constexpr size_t kComparison = 1 << 12;  // nodes up to which comparisons take less time

// Sorts items [count) by their keys, equal ones by their rows, which ascend.
template <typename Key>
void sort_items(Item<Key>* items, size_t count) {
  if (count > kComparison) return radix_sort(items, static_cast<int64_t>(count));
  std::sort(items, items + count,
            [](const auto& a, const auto& b) { return a.key != b.key ? a.key < b.key : a.row < b.row; });
}

// The nodes in descending order of their priority, those of equal priority in the order of their hashes.
template <typename T>
std::vector<int64_t> visiting_order(const Blocks& blocks, const T* priority, uint64_t seed) {
  using Keys = FloatKeys<T>;
  const int64_t nodes = blocks.ptr[blocks.graphs];
  std::vector<int64_t> order(static_cast<size_t>(nodes));
  std::vector<Item<typename Keys::Key>> items(priority ? order.size() : 0);
  for (size_t i = 0; i < items.size(); ++i) {
    items[i] = {static_cast<typename Keys::Key>(~Keys::key(priority[i])), static_cast<int64_t>(i)};
  }
  sort_items(items.data(), items.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = priority ? items[i].row : static_cast<int64_t>(i);
  const uint64_t salt = mix(seed);
  const auto hash = [&](int64_t i) {
    const int64_t* const next = std::upper_bound(blocks.ptr, blocks.ptr + blocks.graphs + 1, i);
    return node_hash(salt, i - next[-1]);
  };
  std::vector<Item<uint64_t>> equal;
  for (size_t begin = 0, end = 0; begin < order.size(); begin = end) {
    for (end = begin + 1; end < order.size() && (!priority || items[end].key == items[begin].key);) ++end;
    if (end == begin + 1) continue;
    equal.clear();
    for (size_t i = begin; i < end; ++i) equal.push_back({hash(order[i]), order[i]});
    sort_items(equal.data(), equal.size());
    for (size_t i = begin; i < end; ++i) order[i] = equal[i - begin].row;
  }
  return order;
}

template <typename I>
void visit_with_one_hop(const Neighbours& graph, const int64_t* order, int64_t* head) {
  constexpr int64_t kAhead = 16;
  const int64_t nodes = graph.a.rows;
  const auto* const rowptr = static_cast<const I*>(graph.a.rowptr);
  std::fill_n(head, nodes, -1);
  for (int64_t place = 0; place < nodes; ++place) {
    if (place + 2 * kAhead < nodes) {
      __builtin_prefetch(rowptr + order[place + 2 * kAhead]);
      __builtin_prefetch(head + order[place + 2 * kAhead]);
      const int64_t soon = order[place + kAhead];
      if (head[soon] < 0) __builtin_prefetch(static_cast<const I*>(graph.a.col) + rowptr[soon]);
    }
    const int64_t first = order[place];
    if (head[first] >= 0) continue;
    head[first] = first;
    for (const Csr* a : {&graph.a, &graph.transpose}) {
      if (a->rowptr == nullptr) continue;
      const auto* const begin = static_cast<const I*>(a->rowptr) + first;
      for (I e = begin[0]; e < begin[1]; ++e) {
        int64_t& own = head[static_cast<const I*>(a->col)[e]];
        own = own < 0 ? first : own;
      }
    }
  }
}

template <typename I>
void visit(const Neighbours& graph, const int64_t* order, int64_t hops, int64_t* head) {
  if (hops == 1) return visit_with_one_hop<I>(graph, order, head);
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

template <typename I, typename T>
void divide(const Csr& ending, T* score) {
  const auto* const rowptr = static_cast<const I*>(ending.rowptr);
  for (int64_t i = 0; i < ending.rows; ++i) score[i] /= static_cast<T>(rowptr[i + 1] - rowptr[i]) + T(1);
}

}  // namespace

template <typename T>
void divide_by_walks(const Csr& ending, T* score) {
  ending.int64_index ? divide<int64_t>(ending, score) : divide<int32_t>(ending, score);
}

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

template void divide_by_walks(const Csr&, float*);
template void divide_by_walks(const Csr&, double*);
template bool maximal_independent_set(const Neighbours&, const Blocks&, const float*, int64_t, uint64_t,
                                      int64_t*);
template bool maximal_independent_set(const Neighbours&, const Blocks&, const double*, int64_t, uint64_t,
                                      int64_t*);

}  // namespace hierpool::cpu
