// Merging of clusters, best pairs first, until a number of them is left.
#pragma once

#include <queue>
#include <unordered_map>
#include <utility>
#include <vector>

#include "cpu/selection_moves.h"

namespace hierpool::cpu {

template <typename I>
class Merge {
 public:
  // The nodes of `level` are the clusters.
  Merge(const Level<I>& level, const Objective& objective)
      : level_(level), objective_(objective), nodes_(static_cast<size_t>(level.nodes)) {
    for (I i = 0; i < level.nodes; ++i) {
      Node& own = node(i);
      own.volume = level.volume.data()[i];
      own.size = level.size.data()[i];
      for (I e = level.rowptr.data()[i]; e < level.rowptr.data()[i + 1]; ++e) {
        own.weight.emplace(level.col.data()[e], level.weight_of(e));
      }
    }
  }

  // Returns the cluster [nodes] of each node. Clusters grow beyond the largest size where that cannot be avoided.
  std::vector<I> run(I count) {
    std::vector<I> cluster(nodes_.size());
    for (I i = 0; i < level_.nodes; ++i) {
      cluster[static_cast<size_t>(i)] = i;
      push_smallest(i);
      for (const auto& [j, weight] : node(i).weight) {
        if (j > i) push_pair(i, j, weight);
      }
    }
    for (I left = level_.nodes; left > count; --left) {
      const auto [first, second] = next_pair();
      const auto [into, merged] = merge(first, second);
      cluster[static_cast<size_t>(merged)] = into;
    }
    for (I i = 0; i < level_.nodes; ++i) {  // of nodes that were merged, to those that they are part of
      I head = i;
      while (cluster[static_cast<size_t>(head)] != head) head = cluster[static_cast<size_t>(head)];
      for (I j = i; j != head;) j = std::exchange(cluster[static_cast<size_t>(j)], head);
    }
    return cluster;
  }

 private:
  // Gains are computed anew when they have changed by this part of their terms. Exact ones would make a merge as long as
  // the list of neighbours, which is quadratic around a hub.
  static constexpr double kTolerance = 1.0 / 16;

  struct Node {
    double volume = 0;
    int64_t size = 0;
    int64_t stamp = 0;  // number of changes; -1: merged into another
    std::unordered_map<I, double> weight;
  };

  struct Pair {
    double gain;
    I a, b;  // a < b
    bool operator<(const Pair& other) const {
      if (gain != other.gain) return gain < other.gain;
      if (a != other.a) return a > other.a;
      return b > other.b;
    }
  };

  struct Small {
    double volume;
    int64_t size;
    I node;
    int64_t stamp;
    bool operator<(const Small& other) const {
      if (volume != other.volume) return volume > other.volume;
      if (size != other.size) return size > other.size;
      return node > other.node;
    }
  };

  Node& node(I i) { return nodes_[static_cast<size_t>(i)]; }

  void push_smallest(I i) { smallest_.push({node(i).volume, node(i).size, i, node(i).stamp}); }

  double gain(I a, I b, double weight) { return objective_.gain(weight, node(a).volume, node(b).volume); }

  void push_pair(I a, I b, double weight) {
    pairs_.push({gain(a, b, weight), std::min(a, b), std::max(a, b)});
  }

  // The best of the pairs that edges join and of the two smallest clusters.
  std::pair<I, I> next_pair() {
    settle();
    const Small first = pop_smallest(), second = pop_smallest();
    smallest_.push(first), smallest_.push(second);
    const bool fits = first.size + second.size <= objective_.largest;
    const double apart = objective_.gain(0, first.volume, second.volume);
    if (!pairs_.empty() && (!fits || pairs_.top().gain >= apart)) return {pairs_.top().a, pairs_.top().b};
    return {std::min(first.node, second.node), std::max(first.node, second.node)};
  }

  // Drops first pairs that cannot be merged, and queues those again that have lost gain, until one has not.
  void settle() {
    while (!pairs_.empty()) {
      const auto [before, a, b] = pairs_.top();
      const bool exist = node(a).stamp >= 0 && node(b).stamp >= 0;
      if (exist && node(a).size + node(b).size <= objective_.largest) {
        const double weight = node(a).weight.at(b), now = gain(a, b, weight);
        const double apart = objective_.resolution * node(a).volume * node(b).volume;
        if (before - now <= kTolerance * (objective_.scale * weight + apart)) return;
        pairs_.push({now, a, b});  // below the first
      }
      pairs_.pop();
    }
  }

  Small pop_smallest() {
    while (node(smallest_.top().node).stamp != smallest_.top().stamp) smallest_.pop();
    const Small top = smallest_.top();
    smallest_.pop();
    return top;
  }

  // Merges the node with fewer neighbours into the other one, which is returned first.
  std::pair<I, I> merge(I a, I b) {
    if (node(a).weight.size() < node(b).weight.size()) std::swap(a, b);
    Node &one = node(a), &other = node(b);
    one.volume += other.volume, one.size += other.size;
    ++one.stamp, other.stamp = -1;
    push_smallest(a);
    for (const auto& [j, weight] : other.weight) {
      node(j).weight.erase(b);
      if (j == a) continue;
      const double total = node(j).weight[a] = one.weight[j] += weight;
      push_pair(a, j, total);
    }
    other.weight.clear();
    return {a, b};
  }

  const Level<I>& level_;
  Objective objective_;
  std::vector<Node> nodes_;
  std::priority_queue<Pair> pairs_;
  std::priority_queue<Small> smallest_;
};

}  // namespace hierpool::cpu
