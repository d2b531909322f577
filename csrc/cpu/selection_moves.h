// Moves of single nodes between clusters, each of which improves the objective.
#pragma once

#include <algorithm>
#include <functional>
#include <limits>
#include <utility>
#include <vector>

#include "cpu/selection_levels.h"

namespace hierpool::cpu {

// The gain of a node of volume d and of edges of weight w to the others of a cluster of volume D is
// scale * w - resolution * d * D. With unit weights and an integer resolution it is exact.
struct Objective {
  double scale, resolution;
  int64_t largest;  // nodes of a cluster
  double gain(double weight, double volume, double of_cluster) const {
    return scale * weight - resolution * volume * of_cluster;
  }
};

template <typename I>
class Moves {
 public:
  // Clusters `label` [nodes] of a level, which the moves change; numbers below `nodes`.
  Moves(const Level<I>& level, std::vector<I>& label, const Objective& objective)
      : level_(level), label_(label), objective_(objective), clusters_(static_cast<size_t>(level.nodes)) {
    for (I i = 0; i < level.nodes; ++i) {
      Cluster& own = at(label[static_cast<size_t>(i)]);
      own.volume += level.volume.data()[i];
      own.size += level.size.data()[i];
      used_ += own.members++ == 0;
    }
    for (I c = level.nodes; c-- > 0;) {
      if (at(c).members == 0) free_.push_back(c);
    }
  }

  I used() const { return used_; }

  // Visits every node, in `order`, and those that are still single join their best neighbours, until `least` clusters
  // are left. Only nodes with the same number in `within` are joined; null: all.
  void join(const std::vector<I>& order, I least, const std::vector<I>* within) {
    for (size_t n = 0; n < order.size() && used_ > least; ++n) {
      prefetch(order, n);
      const I i = order[n];
      if (cluster_of(i).members > 1) continue;
      const Choice other = best_other(i, within);
      if (other.gain > own_gain_) move(i, other.to);
    }
  }

  // Moves nodes to better clusters until there are none, or nearly. No cluster loses its last node if `keep`; there
  // are at most `most` clusters.
  void improve(const std::vector<I>& order, bool keep, I most) {
    std::vector<I> queue = order, next;
    std::vector<uint8_t> waits(order.size(), 1);
    for (int round = 0; round < kRounds && !queue.empty(); ++round) {
      next.clear();
      for (size_t n = 0; n < queue.size(); ++n) {
        prefetch(queue, n);
        const I i = queue[n];
        waits[static_cast<size_t>(i)] = 0;
        const bool single = cluster_of(i).members == 1;
        if (keep && single) continue;
        Choice other = best_other(i, nullptr);
        if (!single && used_ < most && other.gain < 0) other = {free_.back(), 0};
        if (other.gain <= own_gain_) continue;
        move(i, other.to);
        for (I e = row(i); e < row(i + 1); ++e) {
          const I j = level_.col.data()[e];
          if (waits[static_cast<size_t>(j)] || label_[static_cast<size_t>(j)] == other.to) continue;
          waits[static_cast<size_t>(j)] = 1;
          next.push_back(j);
        }
      }
      queue.swap(next);
    }
  }

  // Moves nodes out of clusters that are too large, at the least loss, where others have room for them. There are
  // at most `most` clusters.
  void balance(I most) {
    for (int round = 0; round < kRounds; ++round) {
      std::vector<std::pair<double, I>> candidates;
      for (I i = 0; i < level_.nodes; ++i) {
        if (cluster_of(i).size <= objective_.largest || cluster_of(i).members == 1) continue;
        const Choice other = best_other(i, nullptr);
        const double loss = other.to < 0 ? own_gain_ : own_gain_ - other.gain;
        candidates.emplace_back(loss / static_cast<double>(level_.size.data()[i]), i);
      }
      if (candidates.empty()) return;
      std::sort(candidates.begin(), candidates.end());
      std::vector<std::pair<I, I>> lightest;  // clusters by size
      for (I c = 0; c < static_cast<I>(clusters_.size()); ++c) {
        if (at(c).members > 0) lightest.emplace_back(at(c).size, c);
      }
      const auto heavier = std::greater<std::pair<I, I>>();
      std::make_heap(lightest.begin(), lightest.end(), heavier);
      bool moved = false;
      for (const auto& [loss, i] : candidates) {
        if (cluster_of(i).size <= objective_.largest || cluster_of(i).members == 1) continue;
        I to = best_other(i, nullptr).to;
        if (to < 0) to = lightest_with_room(i, lightest);
        if (to < 0 && used_ < most) {
          to = free_.back();
          lightest.emplace_back(I(0), to);
          std::push_heap(lightest.begin(), lightest.end(), heavier);
        }
        if (to < 0) continue;
        move(i, to);
        moved = true;
      }
      if (!moved) return;
    }
  }

 private:
  static constexpr int kRounds = 16;
  static constexpr size_t kAhead = 4;
  static constexpr I kEntries = 16;

  struct Cluster {
    double weight = 0;  // of the edges to it of the node that is looked at
    double volume = 0;
    I size = 0, members = 0;
  };

  I row(I i) const { return level_.rowptr.data()[i]; }
  Cluster& at(I c) { return clusters_[static_cast<size_t>(c)]; }
  Cluster& cluster_of(I i) { return at(label_[static_cast<size_t>(i)]); }

  // Rows, labels and clusters of the nodes that come next are far apart in memory.
  void prefetch(const std::vector<I>& order, size_t n) const {
    if (n + 4 * kAhead >= order.size()) return;
    __builtin_prefetch(level_.rowptr.data() + order[n + 4 * kAhead]);
    const I* const col = level_.col.data();
    const I first = row(order[n + 3 * kAhead]);
    __builtin_prefetch(col + first);
    if (level_.weight.data()) __builtin_prefetch(level_.weight.data() + first);
    __builtin_prefetch(label_.data() + order[n + 2 * kAhead]);
    const auto entries = [&](I i, const auto& f) {
      for (I e = row(i); e < std::min(row(i + 1), row(i) + kEntries); ++e) f(col[e]);
    };
    entries(order[n + 2 * kAhead], [&](I j) { __builtin_prefetch(label_.data() + j); });
    entries(order[n + kAhead],
            [&](I j) { __builtin_prefetch(clusters_.data() + label_[static_cast<size_t>(j)]); });
  }

  struct Choice {
    I to;
    double gain;
  };

  // The best neighbouring cluster with room for node i, other than its own, whose gain is own_gain_; -1 if there is none.
  Choice best_other(I i, const std::vector<I>* within) {
    const I from = label_[static_cast<size_t>(i)];
    const double volume = level_.volume.data()[i];
    const int64_t room = objective_.largest - level_.size.data()[i];
    touched_.clear();
    for (I e = row(i); e < row(i + 1); ++e) {
      const I j = level_.col.data()[e];
      if (within && (*within)[static_cast<size_t>(j)] != (*within)[static_cast<size_t>(i)]) continue;
      const I c = label_[static_cast<size_t>(j)];
      if (at(c).weight == 0) touched_.push_back(c);
      at(c).weight += level_.weight_of(e);
    }
    own_gain_ = objective_.gain(at(from).weight, volume, at(from).volume - volume);
    Choice best{-1, -std::numeric_limits<double>::infinity()};
    for (const I c : touched_) {
      Cluster& other = at(c);
      if (c != from && other.size <= room) {
        const double gain = objective_.gain(other.weight, volume, other.volume);
        if (gain > best.gain) best = {c, gain};
      }
      other.weight = 0;
    }
    return best;
  }

  // `heap`: sizes of clusters, the smallest on top, of which some have grown since.
  I lightest_with_room(I i, std::vector<std::pair<I, I>>& heap) {
    const auto heavier = std::greater<std::pair<I, I>>();
    while (at(heap.front().second).size != heap.front().first) {
      std::pop_heap(heap.begin(), heap.end(), heavier);
      heap.back().first = at(heap.back().second).size;
      std::push_heap(heap.begin(), heap.end(), heavier);
    }
    const auto [size, c] = heap.front();
    return size + level_.size.data()[i] <= objective_.largest ? c : I(-1);
  }

  void move(I i, I to) {
    I& label = label_[static_cast<size_t>(i)];
    Cluster &from = at(label), &own = at(to);
    if (own.members++ == 0) ++used_, free_.pop_back();
    own.volume += level_.volume.data()[i];
    own.size += level_.size.data()[i];
    from.volume -= level_.volume.data()[i];
    from.size -= level_.size.data()[i];
    if (--from.members == 0) --used_, from.volume = 0, free_.push_back(label);
    label = to;
  }

  const Level<I>& level_;
  std::vector<I>& label_;
  Objective objective_;
  std::vector<Cluster> clusters_;
  std::vector<I> touched_, free_;
  I used_ = 0;
  double own_gain_ = 0;
};

}  // namespace hierpool::cpu
