// Maximal independent sets: nodes are visited by priority, and each that is not covered yet covers its surroundings.
#include <algorithm>
#include <numeric>
#include <vector>

#include "cpu/buffer.h"
#include "cpu/float_keys.h"
#include "cpu/hash.h"
#include "cpu/radix_sort.h"
#include "cpu/score_ranks.h"
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

// The nodes of graphs in the order in which they are visited. The memory serves all graphs.
template <typename T>
class VisitingOrder {
 public:
  VisitingOrder(const T* priority, uint64_t seed) : priority_(priority), salt_(mix(seed)) {}

  // The nodes [first, first + n) in descending order of their priority, those of equal priority in the order of their
  // hashes.
  const std::vector<int64_t>& find(int64_t first, int64_t n) {
    order_.resize(static_cast<size_t>(n));
    by_priority(first, n);
    const auto end_of_equal = [&](size_t begin) {
      if (!priority_) return order_.size();
      size_t end = begin + 1;
      while (end < order_.size() && priority_[order_[end]] == priority_[order_[begin]]) ++end;
      return end;
    };
    for (size_t begin = 0, end = 0; begin < order_.size(); begin = end) {
      end = end_of_equal(begin);
      if (end > begin + 1) sort_equal(begin, end, first);
    }
    return order_;
  }

 private:
  using Keys = FloatKeys<T>;

  void by_priority(int64_t first, int64_t n) {
    if (!priority_) return std::iota(order_.begin(), order_.end(), first);
    if (DescendingRanks::take<T>(n)) {
      ranks_.find(priority_ + first, n,
                  [&](int64_t i, int64_t rank) { order_[static_cast<size_t>(rank)] = first + i; });
      return;
    }
    items_.resize(order_.size());
    for (int64_t i = 0; i < n; ++i)
      items_[static_cast<size_t>(i)] = {static_cast<typename Keys::Key>(~Keys::key(priority_[first + i])),
                                        first + i};
    sort_items(items_.data(), items_.size());
    std::transform(items_.begin(), items_.end(), order_.begin(), [](const auto& item) { return item.row; });
  }

  void sort_equal(size_t begin, size_t end, int64_t first) {
    equal_.clear();
    for (size_t i = begin; i < end; ++i) equal_.push_back({node_hash(salt_, order_[i] - first), order_[i]});
    sort_items(equal_.data(), equal_.size());
    for (size_t i = begin; i < end; ++i) order_[i] = equal_[i - begin].row;
  }

  const T* priority_;
  uint64_t salt_;
  DescendingRanks ranks_;
  std::vector<int64_t> order_;
  std::vector<Item<typename Keys::Key>> items_;
  std::vector<Item<uint64_t>> equal_;
};

template <typename I>
class Visit {
 public:
  Visit(const Neighbours& graph, int64_t hops, int64_t* head)
      : graph_(graph), hops_(hops), head_(head), left_(hops > 1 ? graph.a.rows : 0) {
    std::fill_n(head, graph.a.rows, -1);
    if (hops > 1) std::fill_n(left_.data(), graph.a.rows, -1);
  }

  void run(const std::vector<int64_t>& order) { hops_ == 1 ? with_one_hop(order) : with_hops(order); }

 private:
  void with_one_hop(const std::vector<int64_t>& order) {
    constexpr size_t kAhead = 16;
    const auto* const rowptr = static_cast<const I*>(graph_.a.rowptr);
    for (size_t place = 0; place < order.size(); ++place) {
      if (place + 2 * kAhead < order.size()) {
        __builtin_prefetch(rowptr + order[place + 2 * kAhead]);
        __builtin_prefetch(head_ + order[place + 2 * kAhead]);
        const int64_t soon = order[place + kAhead];
        if (head_[soon] < 0) __builtin_prefetch(static_cast<const I*>(graph_.a.col) + rowptr[soon]);
      }
      const int64_t first = order[place];
      if (head_[first] >= 0) continue;
      head_[first] = first;
      each_neighbour(first, [&](int64_t j) { head_[j] = head_[j] < 0 ? first : head_[j]; });
    }
  }

  void with_hops(const std::vector<int64_t>& order) {
    for (const int64_t first : order) {
      if (head_[first] >= 0) continue;
      front_.assign(1, first);
      head_[first] = first, left_.data()[first] = hops_;
      for (int64_t remaining = hops_ - 1; remaining >= 0 && !front_.empty(); --remaining) {
        next_.clear();
        for (const int64_t i : front_) {
          each_neighbour(i, [&](int64_t j) {
            if (head_[j] < 0) head_[j] = first;
            if (left_.data()[j] >= remaining) return;
            left_.data()[j] = remaining;
            if (remaining > 0) next_.push_back(j);
          });
        }
        front_.swap(next_);
      }
    }
  }

  template <typename Use>
  void each_neighbour(int64_t i, const Use& use) const {
    for (const Csr* a : {&graph_.a, &graph_.transpose}) {
      if (a->rowptr == nullptr) continue;
      const auto* const rowptr = static_cast<const I*>(a->rowptr);
      for (I e = rowptr[i]; e < rowptr[i + 1]; ++e) use(static_cast<const I*>(a->col)[e]);
    }
  }

  const Neighbours& graph_;
  int64_t hops_;
  int64_t* head_;
  // The most hops that were left when a node was reached. It is expanded again only with more of them: what can be
  // reached with fewer is covered, by an earlier head.
  Buffer<int64_t> left_;
  std::vector<int64_t> front_, next_;
};

template <typename I, typename T>
void visit(const Neighbours& graph, const Blocks& blocks, const T* priority, int64_t hops, uint64_t seed,
           int64_t* head) {
  VisitingOrder<T> order(priority, seed);
  Visit<I> work(graph, hops, head);
  for (int64_t b = 0; b < blocks.graphs; ++b) {
    work.run(order.find(blocks.ptr[b], blocks.ptr[b + 1] - blocks.ptr[b]));
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
  graph.a.int64_index ? visit<int64_t>(graph, blocks, priority, hops, seed, head)
                      : visit<int32_t>(graph, blocks, priority, hops, seed, head);
  return true;
}

template void divide_by_walks(const Csr&, float*);
template void divide_by_walks(const Csr&, double*);
template bool maximal_independent_set(const Neighbours&, const Blocks&, const float*, int64_t, uint64_t,
                                      int64_t*);
template bool maximal_independent_set(const Neighbours&, const Blocks&, const double*, int64_t, uint64_t,
                                      int64_t*);

}  // namespace hierpool::cpu
