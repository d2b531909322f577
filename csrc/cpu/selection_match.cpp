// Greedy matching as rounds of locally best edges: an edge is chosen when it is the best one at both of its ends. As the
// order of edges is strict, the result is that of visiting all edges in this order.
#include <algorithm>
#include <atomic>
#include <limits>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "cpu/buffer.h"
#include "cpu/hash.h"
#include "cpu/tasks.h"
#include "hierpool/selection.h"

namespace hierpool::cpu {
namespace {

template <typename I, typename T>
class Matching {
 public:
  Matching(const MatchProblem& problem, int64_t* mate, const Runtime& runtime)
      : problem_(problem),
        runtime_(runtime),
        nodes_(problem.graph.a.rows),
        score_(static_cast<const T*>(problem.score)),
        node_(nodes_),
        best_(nodes_),
        scans_(nodes_),
        mate_(mate) {
    const uint64_t salt = mix(problem.seed);
    for (int64_t b = 0; b < problem.blocks.graphs; ++b) {
      const int64_t first = problem.blocks.ptr[b];
      for (int64_t i = first; i < problem.blocks.ptr[b + 1]; ++i) {
        node_.data()[i] = {node_hash(salt, i - first), -1};
      }
    }
    std::fill_n(best_.data(), nodes_, -1);
    std::fill_n(scans_.data(), nodes_, uint8_t{0});
  }

  void run() {
    std::vector<int64_t> frontier(static_cast<size_t>(nodes_)), next;
    for (int64_t i = 0; i < nodes_; ++i) frontier[static_cast<size_t>(i)] = i;
    while (!frontier.empty()) {
      const int64_t count = std::ssize(frontier);
      each(count, [&](int64_t f) { find_best(frontier[static_cast<size_t>(f)]); });
      const std::vector<int64_t> chosen = collect(count, [&](int64_t f, auto& found) {
        const int64_t i = frontier[static_cast<size_t>(f)], j = best_.data()[i];
        // If both ends are in the frontier, both get here and write the same.
        if (j >= 0 && best_.data()[j] == i) {
          set_mate(i, j), set_mate(j, i);
          found.push_back(i);
          if (j != i) found.push_back(j);
        }
      });
      frontier = losers(chosen);
    }
    for (int64_t i = 0; i < nodes_; ++i) mate_[i] = node_.data()[i].mate;
  }

 private:
  struct Node {
    uint64_t hash;
    int64_t mate;  // -1: none
  };

  struct Candidate {
    T score;
    uint64_t hash;
    int64_t node;
  };

  // Candidates of one node in the order of the matching.
  static bool before(const Candidate& a, const Candidate& b) {
    if (a.score != b.score) return a.score > b.score;
    if (a.hash != b.hash) return a.hash < b.hash;
    return a.node < b.node;
  }

  // The candidates of a node that is visited often, sorted.
  struct Queue {
    std::vector<Candidate> candidates;
    size_t at = 0;
  };

  static constexpr int64_t kChunk = 1 << 11;
  static constexpr uint8_t kScans = 8;  // of a row, before it is sorted

  template <typename Task>
  void each(int64_t count, const Task& task) {
    run_tasks(runtime_, (count + kChunk - 1) / kChunk, [&](int64_t c, int64_t) {
      for (int64_t f = c * kChunk; f < std::min(count, (c + 1) * kChunk); ++f) task(f);
    });
  }

  // All that task(f, found) appends to `found`, in the order of f.
  template <typename Task>
  std::vector<int64_t> collect(int64_t count, const Task& task) {
    std::vector<std::vector<int64_t>> parts(static_cast<size_t>((count + kChunk - 1) / kChunk));
    each(count, [&](int64_t f) { task(f, parts[static_cast<size_t>(f / kChunk)]); });
    if (parts.size() == 1) return std::move(parts[0]);
    std::vector<int64_t> all;
    for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
    return all;
  }

  int64_t mate_of(int64_t i) const {
    return std::atomic_ref(node_.data()[i].mate).load(std::memory_order_relaxed);
  }
  void set_mate(int64_t i, int64_t j) {
    std::atomic_ref(node_.data()[i].mate).store(j, std::memory_order_relaxed);
  }

  // Calls f(j, score) for all entries that join node i with a node j.
  template <typename F>
  void neighbours(int64_t i, const F& f) const {
    const auto walk = [&](const Csr& a, const I* source) {
      const auto* const rowptr = static_cast<const I*>(a.rowptr);
      const auto* const col = static_cast<const I*>(a.col);
      for (I e = rowptr[i]; e < rowptr[i + 1]; ++e) {
        f(static_cast<int64_t>(col[e]), score_ == nullptr ? T{1} : score_[source == nullptr ? e : source[e]]);
      }
    };
    const Neighbours& graph = problem_.graph;
    walk(graph.a, nullptr);
    if (graph.transpose.rowptr != nullptr) walk(graph.transpose, static_cast<const I*>(graph.source));
  }

  // Calls f(candidate) for the nodes that node i can be matched with.
  template <typename F>
  void candidates(int64_t i, const F& f) const {
    const uint64_t own = node_.data()[i].hash;
    neighbours(i, [&](int64_t j, T score) {
      if ((j == i && !problem_.loops) || mate_of(j) >= 0) return;
      if (score == -std::numeric_limits<T>::infinity()) return;
      f(Candidate{score, mix_pair(own + node_.data()[j].hash), j});
    });
  }

  void find_best(int64_t i) {
    if (scans_.data()[i] == kScans) return next_in_queue(i);
    ++scans_.data()[i];
    Candidate best{};
    bool any = false;
    candidates(i, [&](const Candidate& c) {
      if (!any || before(c, best)) best = c, any = true;
    });
    best_.data()[i] = any ? best.node : -1;
  }

  void next_in_queue(int64_t i) {
    Queue* queue;
    {
      const std::lock_guard lock(mutex_);
      const auto [place, is_new] = queues_.try_emplace(i);
      queue = &place->second;
      if (is_new) {
        candidates(i, [&](const Candidate& c) { queue->candidates.push_back(c); });
        std::sort(queue->candidates.begin(), queue->candidates.end(), before);
      }
    }
    const auto& all = queue->candidates;
    while (queue->at < all.size() && mate_of(all[queue->at].node) >= 0) ++queue->at;
    best_.data()[i] = queue->at < all.size() ? all[queue->at].node : -1;
  }

  // The nodes without a mate whose best neighbour is one of `chosen`, the nodes that got theirs in this round.
  std::vector<int64_t> losers(const std::vector<int64_t>& chosen) {
    const auto lost = [&](int64_t k) {
      return mate_of(k) < 0 && best_.data()[k] >= 0 && mate_of(best_.data()[k]) >= 0;
    };
    if (std::ssize(chosen) > nodes_ / 8) {
      return collect(nodes_, [&](int64_t k, auto& found) {
        if (lost(k)) found.push_back(k);
      });
    }
    auto found = collect(std::ssize(chosen), [&](int64_t c, auto& into) {
      neighbours(chosen[static_cast<size_t>(c)], [&](int64_t k, T) {
        if (lost(k)) into.push_back(k);
      });
    });
    std::sort(found.begin(), found.end());
    found.erase(std::unique(found.begin(), found.end()), found.end());
    return found;
  }

  const MatchProblem& problem_;
  const Runtime& runtime_;
  int64_t nodes_;
  const T* score_;
  Buffer<Node> node_;
  Buffer<int64_t> best_;   // best candidate of each node, -1: none
  Buffer<uint8_t> scans_;  // of its row
  int64_t* mate_;
  std::mutex mutex_;
  std::unordered_map<int64_t, Queue> queues_;
};

template <typename T>
void match_scores(const MatchProblem& problem, int64_t* mate, const Runtime& runtime) {
  if (problem.graph.a.int64_index) {
    Matching<int64_t, T>(problem, mate, runtime).run();
  } else {
    Matching<int32_t, T>(problem, mate, runtime).run();
  }
}

}  // namespace

void match(const MatchProblem& problem, int64_t* mate, const Runtime& runtime) {
  if (problem.is_double) {
    match_scores<double>(problem, mate, runtime);
  } else {
    match_scores<float>(problem, mate, runtime);
  }
}

}  // namespace hierpool::cpu
