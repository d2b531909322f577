// Greedy matching by proposals: every node proposes to the best neighbour that prefers it to the proposal it holds, and a
// node whose proposal is displaced proposes again. As the order of edges is strict, those that remain are the pairs of
// visiting all edges in this order, whichever node proposes first.
#include <algorithm>
#include <atomic>
#include <limits>
#include <mutex>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "cpu/buffer.h"
#include "cpu/hash.h"
#include "cpu/isa.h"
#include "cpu/row_kernels.h"
#include "cpu/tasks.h"
#include "hierpool/selection.h"

namespace hierpool::cpu {
namespace {

// In place of scores that are all equal: the keys are hashes.
struct Equal {};

// What pairs are ordered by: scores, or hashes.
template <typename T>
struct MatchKey {
  using Type = T;
  static constexpr T kNone = -std::numeric_limits<T>::infinity();
};
template <>
struct MatchKey<Equal> {
  using Type = uint64_t;
  static constexpr uint64_t kNone = 0;
};

// T: double, float or Equal.
template <typename I, typename T>
class Matching {
 public:
  Matching(const MatchProblem& problem, const Runtime& runtime)
      : graph_(problem.graph),
        loops_(problem.loops),
        score_(static_cast<const T*>(problem.score)),
        nodes_(problem.graph.a.rows),
        shared_(runtime.threads > 1 && nodes_ > kChunk),
        hash_(nodes_),
        holder_(nodes_),
        held_(nodes_),
        locked_(shared_ ? nodes_ : 0),
        scans_(nodes_) {
    if constexpr (kVectors) best_offer_ = row_kernels<T>(isa_in_force()).best_offer;
    const uint64_t salt = mix(problem.seed);
    for (int64_t b = 0; b < problem.blocks.graphs; ++b) {
      const int64_t first = problem.blocks.ptr[b];
      for (int64_t i = first; i < problem.blocks.ptr[b + 1]; ++i)
        hash_.data()[i] = node_hash(salt, i - first);
    }
    std::fill_n(holder_.data(), nodes_, I{-1});
    std::fill_n(held_.data(), nodes_, kNone);
    std::fill_n(scans_.data(), nodes_, uint8_t{0});
    if (shared_) std::fill_n(locked_.data(), nodes_, uint8_t{0});
  }

  void run(int64_t* mate, const Runtime& runtime) {
    run_range_tasks(runtime, nodes_, kChunk, [&](int64_t begin, int64_t end, int64_t) {
      propose_all(static_cast<I>(begin), static_cast<I>(end));
    });
    std::copy_n(holder_.data(), nodes_, mate);
  }

 private:
  using Key = typename MatchKey<T>::Type;
  static constexpr Key kNone = MatchKey<T>::kNone;
  static constexpr bool kEqual = std::is_same_v<T, Equal>;
  static constexpr bool kVectors = !kEqual && std::is_same_v<I, int32_t>;
  static constexpr int64_t kChunk = 1 << 11;
  static constexpr int kBatch = 32;     // nodes whose rows are read at a time, as their memory is waited for
  static constexpr uint8_t kScans = 8;  // of a row, before it is sorted

  struct Candidate {
    Key key;
    I node;  // -1: none
  };

  // The candidates of a node that proposes often, sorted.
  struct Queue {
    std::vector<Candidate> candidates;
    size_t at = 0;
  };

  // The nodes [begin, end) propose, and all whose proposals are displaced or refused thereby.
  void propose_all(I begin, I end) {
    I batch[kBatch];
    Candidate best[kBatch];
    std::vector<I> again;
    for (;;) {
      int count = 0;
      for (; count < kBatch && !again.empty(); again.pop_back()) batch[count++] = again.back();
      for (int b = 0; b < count; ++b) {
        const I first = static_cast<const I*>(graph_.a.rowptr)[batch[b]];
        __builtin_prefetch(static_cast<const I*>(graph_.a.col) + first);
        if constexpr (!kEqual) __builtin_prefetch(score_ + first);
      }
      while (count < kBatch && begin < end) batch[count++] = begin++;
      if (count == 0) return;
      for (int b = 0; b < count; ++b) prefetch_held(batch[b]);
      for (int b = 0; b < count; ++b) best[b] = find_best(batch[b]);
      for (int b = 0; b < count; ++b) {
        if (best[b].node < 0) continue;
        const I next = propose(batch[b], best[b]);
        if (next < 0) continue;
        again.push_back(next);
        __builtin_prefetch(static_cast<const I*>(graph_.a.rowptr) + next);
      }
    }
  }

  // What the first neighbours of a node hold is waited for, where it does not fit into a cache.
  void prefetch_held(I i) const {
    const auto* const rowptr = static_cast<const I*>(graph_.a.rowptr);
    const auto* const col = static_cast<const I*>(graph_.a.col);
    const I end = std::min<I>(rowptr[i + 1], rowptr[i] + 16);
    for (I e = rowptr[i]; e < end; ++e) __builtin_prefetch(held_.data() + col[e]);
  }

  // Returns the node that has to propose again, or -1.
  I propose(I i, const Candidate& best) {
    I next = i;
    lock(best.node);
    if (prefers(best.node, i, best.key)) {
      next = std::exchange(holder_.data()[best.node], i);
      std::atomic_ref(held_.data()[best.node]).store(best.key, std::memory_order_relaxed);
    }
    unlock(best.node);
    return next;
  }

  void lock(I j) {
    if (!shared_) return;
    while (std::atomic_ref(locked_.data()[j]).exchange(1, std::memory_order_acquire)) {
    }
  }
  void unlock(I j) {
    if (shared_) std::atomic_ref(locked_.data()[j]).store(0, std::memory_order_release);
  }

  Key held(I j) const { return std::atomic_ref(held_.data()[j]).load(std::memory_order_relaxed); }

  uint64_t pair_hash(I i, I j) const { return mix_pair(hash_.data()[i] + hash_.data()[j]); }

  // Whether node j, which is locked, prefers a proposal of node i to the one that it holds.
  bool prefers(I j, I i, Key key) const {
    const Key other = held(j);
    if (key != other) return key > other;
    const I holder = holder_.data()[j];
    return holder < 0 ? kEqual : pair_hash(i, j) < pair_hash(holder, j);
  }

  // The same for a node that is not locked. What a node holds only gets better, so that a refusal is final.
  bool may_prefer(I j, I i, Key key) {
    if (const Key other = held(j); key != other) return key > other;
    lock(j);
    const bool answer = prefers(j, i, key);
    unlock(j);
    return answer;
  }

  // Calls f(key, j) for all entries that join node i with a node j.
  template <typename F>
  void neighbours(I i, const F& f) const {
    const auto walk = [&](const Csr& a, const auto& entry) {
      const auto* const rowptr = static_cast<const I*>(a.rowptr);
      const auto* const col = static_cast<const I*>(a.col);
      for (I e = rowptr[i]; e < rowptr[i + 1]; ++e) {
        if constexpr (kEqual) {
          f(~pair_hash(i, col[e]), col[e]);
        } else {
          f(score_[entry(e)], col[e]);
        }
      }
    };
    walk(graph_.a, [](I e) { return e; });
    if (!graph_.transpose.rowptr) return;
    walk(graph_.transpose, [source = static_cast<const I*>(graph_.source)](I e) { return source[e]; });
  }

  bool is_excluded(I i, Key key, I j) const { return (j == i && !loops_) || (!kEqual && key == kNone); }

  // The best node that may prefer a proposal of node i to the one that it holds.
  Candidate find_best(I i) {
    if (scans_.data()[i] == kScans) return next_in_queue(i);
    ++scans_.data()[i];
    const I own = loops_ ? I{-1} : i;
    if constexpr (kVectors) {
      if (!graph_.transpose.rowptr) return best_in_row(i, own);
    }
    Candidate best{kNone, -1};
    bool tied = false;
    // Without branches, as they would not be foreseen.
    neighbours(i, [&](Key key, I j) {
      const Key other = held(j);
      const bool takes = (key > other) & (j != own), known = (key != kNone) | kEqual;
      const Key offer = takes ? key : kNone;
      tied |= ((key == other) & known & (j != own)) | ((offer == best.key) & takes & (j != best.node));
      const bool better = offer > best.key;
      best.key = better ? offer : best.key;
      best.node = better ? j : best.node;
    });
    return tied ? find_best_of_equal(i) : best;
  }

  Candidate best_in_row(I i, I own) {
    const I first = static_cast<const I*>(graph_.a.rowptr)[i],
            end = static_cast<const I*>(graph_.a.rowptr)[i + 1];
    const auto best = best_offer_(held_.data(), static_cast<const I*>(graph_.a.col) + first, score_ + first,
                                  end - first, own);
    return best.tied ? find_best_of_equal(i) : Candidate{best.value, best.node};
  }

  // The same where keys are equal.
  Candidate find_best_of_equal(I i) {
    Candidate best{kNone, -1};
    neighbours(i, [&](Key key, I j) {
      if (is_excluded(i, key, j) || key < best.key) return;
      if (best.node >= 0 && key == best.key && pair_hash(i, j) >= pair_hash(i, best.node)) return;
      if (may_prefer(j, i, key)) best = {key, j};
    });
    return best;
  }

  Candidate next_in_queue(I i) {
    Queue* queue;
    {
      const std::lock_guard guard(mutex_);
      const auto [place, is_new] = queues_.try_emplace(i);
      queue = &place->second;
      if (is_new) {
        neighbours(i, [&](Key key, I j) {
          if (!is_excluded(i, key, j)) queue->candidates.push_back({key, j});
        });
        std::sort(queue->candidates.begin(), queue->candidates.end(), [&](const auto& a, const auto& b) {
          return a.key != b.key ? a.key > b.key : pair_hash(i, a.node) < pair_hash(i, b.node);
        });
      }
    }
    const auto& all = queue->candidates;
    while (queue->at < all.size() && !may_prefer(all[queue->at].node, i, all[queue->at].key)) ++queue->at;
    return queue->at < all.size() ? all[queue->at] : Candidate{kNone, -1};
  }

  const Neighbours& graph_;
  bool loops_;
  const T* score_;
  int64_t nodes_;
  bool shared_;  // by several threads
  decltype(RowKernels<std::conditional_t<kEqual, float, T>>::best_offer) best_offer_ = nullptr;
  Buffer<uint64_t> hash_;
  Buffer<I> holder_;        // node whose proposal each node holds, -1: none
  Buffer<Key> held_;        // its key
  Buffer<uint8_t> locked_;  // whether a thread reads or changes both
  Buffer<uint8_t> scans_;   // of the row of each node
  std::mutex mutex_;
  std::unordered_map<I, Queue> queues_;
};

template <typename I>
int64_t entries_of(const Csr& a) {
  return static_cast<const I*>(a.rowptr)[a.rows];
}

template <typename I>
bool has_same_entries(const Csr& a, const Csr& b) {
  const auto equal = [](const void* one, const void* other, int64_t count) {
    return std::equal(static_cast<const I*>(one), static_cast<const I*>(one) + count,
                      static_cast<const I*>(other));
  };
  return equal(a.rowptr, b.rowptr, a.rows + 1) && equal(a.col, b.col, entries_of<I>(a));
}

template <typename I, typename T>
bool match_entries(MatchProblem problem, int64_t* mate, const Runtime& runtime) {
  const int64_t entries = entries_of<I>(problem.graph.a);
  const auto* const score = static_cast<const T*>(problem.score);
  if constexpr (!std::is_same_v<T, Equal>) {
    bool unknown = false;
    for (int64_t e = 0; e < entries; ++e) unknown |= score[e] != score[e];
    if (unknown) return false;
  }
  Buffer<T> larger;
  if (problem.graph.transpose.rowptr && has_same_entries<I>(problem.graph.a, problem.graph.transpose)) {
    // Both rows hold all neighbours: one of them with the larger scores is enough.
    problem.graph.transpose = {};
    if constexpr (!std::is_same_v<T, Equal>) {
      constexpr int64_t kPart = 1 << 14;
      const auto* const source = static_cast<const I*>(problem.graph.source);
      larger = Buffer<T>(entries);
      run_range_tasks(runtime, entries, kPart, [&](int64_t begin, int64_t end, int64_t) {
        for (int64_t e = begin; e < end; ++e) larger.data()[e] = std::max(score[e], score[source[e]]);
      });
      problem.score = larger.data();
    }
  }
  Matching<I, T>(problem, runtime).run(mate, runtime);
  return true;
}

template <typename T>
bool match_scores(const MatchProblem& problem, int64_t* mate, const Runtime& runtime) {
  return problem.graph.a.int64_index ? match_entries<int64_t, T>(problem, mate, runtime)
                                     : match_entries<int32_t, T>(problem, mate, runtime);
}

}  // namespace

bool match(const MatchProblem& problem, int64_t* mate, const Runtime& runtime) {
  if (!problem.score) return match_scores<Equal>(problem, mate, runtime);
  return problem.is_double ? match_scores<double>(problem, mate, runtime)
                           : match_scores<float>(problem, mate, runtime);
}

}  // namespace hierpool::cpu
