// Maximal independent sets: nodes are visited by priority, and each that is not covered yet covers its surroundings.
#include <algorithm>
#include <bit>
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
template <typename I, typename T>
class VisitingOrder {
 public:
  VisitingOrder(const T* priority, uint64_t seed) : priority_(priority), salt_(mix(seed)) {}

  // The nodes [first, first + n) in descending order of their priority, those of equal priority in the order of their
  // hashes.
  const std::vector<I>& find(int64_t first, int64_t n) {
    order_.resize(static_cast<size_t>(n));
    if (!priority_) {
      std::iota(order_.begin(), order_.end(), static_cast<I>(first));
      sort_equal(0, order_.size(), first);
    } else if (DescendingRanks::take<T>(n)) {
      ranks_.find(priority_ + first, n, [&](int64_t i, int64_t rank) {
        order_[static_cast<size_t>(rank)] = static_cast<I>(first + i);
      });
      sort_ties(first, [&](size_t i, size_t j) { return priority_[order_[i]] == priority_[order_[j]]; });
    } else if (sizeof(Key) == 4 && n > static_cast<int64_t>(kComparison) && n < int64_t{1} << 32) {
      by_numbers(first, n);
    } else {
      by_items(first);
    }
    return order_;
  }

 private:
  using Keys = FloatKeys<T>;
  using Key = typename Keys::Key;

  Key key(int64_t i) const { return static_cast<Key>(~Keys::key(priority_[i])); }

  // Key and node are halves of a number.
  void by_numbers(int64_t first, int64_t n) {
    Key least = ~Key{0}, most = 0;
    for (int64_t i = 0; i < n; ++i) {
      least = std::min(least, key(first + i));
      most = std::max(most, key(first + i));
    }
    const Buffer<uint64_t> memory(2 * n);
    uint64_t* const numbers = memory.data();
    for (int64_t i = 0; i < n; ++i)
      numbers[i] = static_cast<uint64_t>(key(first + i) - least) << 32 | static_cast<uint64_t>(i);
    const uint64_t* const sorted =
        radix_sort_by_upper_half(numbers, numbers + n, n, static_cast<int>(std::bit_width(most - least)));
    for (int64_t i = 0; i < n; ++i)
      order_[static_cast<size_t>(i)] = static_cast<I>(first + static_cast<uint32_t>(sorted[i]));
    sort_ties(first, [&](size_t i, size_t j) { return sorted[i] >> 32 == sorted[j] >> 32; });
  }

  void by_items(int64_t first) {
    items_.resize(order_.size());
    for (size_t i = 0; i < items_.size(); ++i) {
      const int64_t node = first + static_cast<int64_t>(i);
      items_[i] = {key(node), node};
    }
    sort_items(items_.data(), items_.size());
    std::transform(items_.begin(), items_.end(), order_.begin(),
                   [](const auto& item) { return static_cast<I>(item.row); });
    sort_ties(first, [&](size_t i, size_t j) { return items_[i].key == items_[j].key; });
  }

  // are_equal(i, i + 1): whether the nodes at these places have one priority.
  template <typename Equal>
  void sort_ties(int64_t first, const Equal& are_equal) {
    for (size_t begin = 0, end = 1; begin < order_.size(); begin = end++) {
      while (end < order_.size() && are_equal(end - 1, end)) ++end;
      if (end > begin + 1) sort_equal(begin, end, first);
    }
  }

  void sort_equal(size_t begin, size_t end, int64_t first) {
    equal_.clear();
    for (size_t i = begin; i < end; ++i) equal_.push_back({node_hash(salt_, order_[i] - first), order_[i]});
    sort_items(equal_.data(), equal_.size());
    for (size_t i = begin; i < end; ++i) order_[i] = static_cast<I>(equal_[i - begin].row);
  }

  const T* priority_;
  uint64_t salt_;
  DescendingRanks ranks_;
  std::vector<I> order_;
  std::vector<Item<Key>> items_;
  std::vector<Item<uint64_t>> equal_;
};

template <typename I>
class Visit {
 public:
  Visit(const Neighbours& graph, int64_t hops, int64_t* head)
      : graph_(graph), hops_(hops), head_(head), left_(hops > 1 ? graph.a.rows : 0) {
    if (hops == 1) {
      covered_.resize(static_cast<size_t>(graph.a.rows + 63) / 64);
    } else {
      std::fill_n(head, graph.a.rows, -1);
      std::fill_n(left_.data(), graph.a.rows, -1);
    }
  }

  void run(const std::vector<I>& order) { hops_ == 1 ? with_one_hop(order) : with_hops(order); }

  // With one hop: whether a node has a head, and what makes it one.
  bool is_covered(int64_t i) const { return (covered_[static_cast<size_t>(i >> 6)] >> (i & 63) & 1) != 0; }
  void cover(int64_t first) {
    uint64_t* const covered = covered_.data();
    int64_t* const head = head_;
    covered[first >> 6] |= uint64_t{1} << (first & 63);
    head[first] = first;
    // A branch would be hard to predict: the head of what is covered already is not written, but that of `first` again.
    each_neighbour(first, [&](int64_t j) {
      uint64_t& word = covered[j >> 6];
      const int64_t all_if_covered = -static_cast<int64_t>(word >> (j & 63) & 1);
      head[j ^ ((j ^ first) & all_if_covered)] = first;
      word |= uint64_t{1} << (j & 63);
    });
  }
  void prefetch_row(int64_t i) const { __builtin_prefetch(static_cast<const I*>(graph_.a.rowptr) + i); }
  void prefetch_columns(int64_t i) const {
    const I* const columns = static_cast<const I*>(graph_.a.col) + static_cast<const I*>(graph_.a.rowptr)[i];
    __builtin_prefetch(columns);
    __builtin_prefetch(columns + 16);
  }

 private:
  void with_one_hop(const std::vector<I>& order) {
    constexpr size_t kAhead = 16;
    for (size_t place = 0; place < order.size(); ++place) {
      if (place + 2 * kAhead < order.size()) {
        prefetch_row(order[place + 2 * kAhead]);
        const int64_t soon = order[place + kAhead];
        if (!is_covered(soon)) prefetch_columns(soon);
      }
      if (!is_covered(order[place])) cover(order[place]);
    }
  }

  void with_hops(const std::vector<I>& order) {
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
  std::vector<uint64_t> covered_;  // bits of nodes
  // The most hops that were left when a node was reached. It is expanded again only with more of them: what can be
  // reached with fewer is covered, by an earlier head.
  Buffer<int64_t> left_;
  std::vector<int64_t> front_, next_;
};

// Visits the nodes of graphs with one hop in the order of VisitingOrder, which is found as far as it is needed: nodes are
// sorted by ranges of priorities first, and what is covered when a range is reached is not sorted further.
template <typename I, typename T>
class LazyVisit {
 public:
  LazyVisit(const T* priority, uint64_t seed, Visit<I>& work)
      : priority_(priority), salt_(mix(seed)), work_(work) {}

  // Visits the nodes [first, first + n), unless there are few of them or too many in one range.
  bool run(int64_t first, int64_t n) {
    if (!priority_ || n <= static_cast<int64_t>(kComparison) || n >= int64_t{1} << 32) return false;
    if (!divide(first, n)) return false;
    for (size_t range = 0; range + 1 < ends_.size();) {
      waiting_.clear();
      for (; range + 1 < ends_.size() && waiting_.size() < kWindow; ++range) take(first, range);
      for (const auto& item : waiting_) work_.prefetch_columns(item.row);
      for (const auto& item : waiting_) {
        if (!work_.is_covered(item.row)) work_.cover(item.row);
      }
    }
    return true;
  }

 private:
  using Keys = FloatKeys<T>;
  using Key = typename Keys::Key;
  static constexpr size_t kWindow = 64;  // nodes whose columns are asked for before they are visited
  static constexpr int kMostBits = 14;   // of the number of ranges

  Key key(int64_t i) const { return static_cast<Key>(~Keys::key(priority_[i])); }

  // nodes_: those of range r from ends_[r] to ends_[r + 1], which are numbers without `first`.
  bool divide(int64_t first, int64_t n) {
    Key least = ~Key{0}, most = 0;
    for (int64_t i = first; i < first + n; ++i) {
      const Key own = key(i);
      least = std::min(least, own);
      most = std::max(most, own);
    }
    const int bits = std::min(kMostBits, static_cast<int>(std::bit_width(static_cast<uint64_t>(n))) - 3);
    const int shift = std::max(0, static_cast<int>(std::bit_width(static_cast<Key>(most - least))) - bits);
    const auto range = [&](int64_t i) { return static_cast<size_t>((key(first + i) - least) >> shift); };
    ends_.assign((size_t{1} << bits) + 1, 0u);
    for (int64_t i = 0; i < n; ++i) ++ends_[range(i)];
    if (*std::max_element(ends_.begin(), ends_.end()) > kComparison) return false;
    std::exclusive_scan(ends_.begin(), ends_.end(), ends_.begin(), 0u);
    nodes_.resize(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i) nodes_[ends_[range(i)]++] = static_cast<uint32_t>(i);
    std::copy_backward(ends_.begin(), ends_.end() - 1, ends_.end());
    ends_[0] = 0;
    return true;
  }

  // Adds the nodes of a range that are not covered yet to those that are visited next.
  void take(int64_t first, size_t range) {
    const auto begin = static_cast<std::ptrdiff_t>(waiting_.size());
    for (uint32_t place = ends_[range]; place < ends_[range + 1]; ++place) {
      const int64_t node = first + nodes_[place];
      if (work_.is_covered(node)) continue;
      work_.prefetch_row(node);
      waiting_.push_back({key(node), node});
    }
    std::sort(waiting_.begin() + begin, waiting_.end(), [&](const auto& a, const auto& b) {
      return a.key != b.key ? a.key < b.key
                            : node_hash(salt_, a.row - first) < node_hash(salt_, b.row - first);
    });
  }

  const T* priority_;
  uint64_t salt_;
  Visit<I>& work_;
  std::vector<uint32_t> ends_, nodes_;
  std::vector<Item<Key>> waiting_;
};

template <typename I, typename T>
void visit(const Neighbours& graph, const Blocks& blocks, const T* priority, int64_t hops, uint64_t seed,
           int64_t* head) {
  VisitingOrder<I, T> order(priority, seed);
  Visit<I> work(graph, hops, head);
  LazyVisit<I, T> lazy(priority, seed, work);
  for (int64_t b = 0; b < blocks.graphs; ++b) {
    const int64_t first = blocks.ptr[b], n = blocks.ptr[b + 1] - first;
    if (hops > 1 || !lazy.run(first, n)) work.run(order.find(first, n));
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
