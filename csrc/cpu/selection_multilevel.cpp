// Multilevel clustering: nodes are merged level by level, clusters are made on the coarsest level, and nodes move between
// them on every level from the coarsest to the finest. Further cycles merge only nodes of the same cluster. All moves are
// made one after the other, so the result does not depend on the number of threads.
#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "cpu/selection_levels.h"
#include "cpu/selection_merge.h"
#include "cpu/selection_moves.h"
#include "cpu/tasks.h"
#include "hierpool/selection.h"

namespace hierpool::cpu {
namespace {

template <typename I>
class Multilevel {
 public:
  Multilevel(const ClusteringProblem& problem, int64_t b, const Runtime& runtime)
      : problem_(problem), runtime_(runtime), seed_(mix(problem.seed)) {
    levels_.push_back(finest_level<I>(problem, b));
    const Level<I>& finest = levels_[0];
    const double total = std::accumulate(finest.volume.data(), finest.volume.data() + finest.nodes, 0.0);
    const int64_t largest = problem.largest[b];
    most_ = static_cast<I>(std::min<int64_t>(problem.most[b], finest.nodes));
    if (problem.cut) {  // modularity, as a rating of edges, prefers small clusters
      joining_ = {total, 1, std::max<int64_t>(largest / 2, 1)};
      moving_ = {1, 0, largest};
    } else {
      joining_ = moving_ = {total, problem.resolution, largest};
    }
  }

  std::vector<I> run(const int64_t* start) {
    std::vector<I> label;
    if (levels_[0].nodes == 0) return label;
    if (start) label.assign(start, start + levels_[0].nodes);
    for (int64_t cycle = 0; cycle < problem_.cycles; ++cycle) {
      levels_.resize(1);
      renumber(label);
      coarsen(label);
      refine(label);
    }
    renumber(label);
    return label;
  }

 private:
  static constexpr double kStall = 0.02;  // share of nodes that are merged, below which a level is the last

  std::vector<I> order(const Level<I>& level) { return random_order(level.nodes, seed_ = mix(seed_)); }

  // Adds levels, and makes labels of the last one of those of the first, or new ones if there are none.
  void coarsen(std::vector<I>& label) {
    const bool is_new = label.empty();
    for (;;) {
      Level<I>& level = levels_.back();
      level.parent.resize(static_cast<size_t>(level.nodes));
      std::iota(level.parent.begin(), level.parent.end(), I(0));
      I joined = 0;  // by an edge
      for (I i = 0; i < level.nodes; ++i) joined += level.rowptr.data()[i] < level.rowptr.data()[i + 1];
      Moves<I> moves(level, level.parent, joining_);
      moves.join(order(level), problem_.exact && is_new ? most_ : I(1), is_new ? nullptr : &label);
      if (static_cast<double>(level.nodes - moves.used()) <= kStall * static_cast<double>(joined)) break;
      const I count = renumber(level.parent);
      if (!is_new) {
        std::vector<I> coarse(static_cast<size_t>(count));
        for (size_t i = 0; i < label.size(); ++i) coarse[static_cast<size_t>(level.parent[i])] = label[i];
        label = std::move(coarse);
      }
      Level<I> next = coarser_level(level, count, runtime_);
      levels_.push_back(std::move(next));
    }
    if (is_new) label = first_clusters(levels_.back());
  }

  std::vector<I> first_clusters(const Level<I>& level) const {
    if (problem_.exact && level.nodes > most_) {
      Objective merging = joining_;
      merging.largest = moving_.largest;
      std::vector<I> label = Merge<I>(level, merging).run(most_);
      renumber(label);
      return label;
    }
    std::vector<I> label(static_cast<size_t>(level.nodes));
    std::iota(label.begin(), label.end(), I(0));
    return label;
  }

  // Moves nodes on all levels, from the last one to the first, of which `label` has the clusters in the end.
  void refine(std::vector<I>& label) {
    for (size_t l = levels_.size(); l-- > 0;) {
      Moves<I> moves(levels_[l], label, moving_);
      moves.balance(most_);
      moves.improve(order(levels_[l]), problem_.exact, most_);
      if (l == 0) return;
      const std::vector<I>& parent = levels_[l - 1].parent;
      std::vector<I> finer(parent.size());
      for (size_t i = 0; i < parent.size(); ++i) finer[i] = label[static_cast<size_t>(parent[i])];
      label = std::move(finer);
    }
  }

  const ClusteringProblem& problem_;
  const Runtime& runtime_;
  std::vector<Level<I>> levels_;
  Objective joining_{}, moving_{};
  I most_ = 0;
  uint64_t seed_;
};

template <typename I>
void run(const ClusteringProblem& problem, int64_t* cluster, const Runtime& runtime) {
  const Blocks& blocks = problem.blocks;
  Runtime alone = runtime;
  if (blocks.graphs > 1) alone.threads = 1;
  run_tasks(runtime, blocks.graphs, [&](int64_t b, int64_t) {
    const int64_t first = blocks.ptr[b];
    const auto found = Multilevel<I>(problem, b, alone).run(problem.start ? problem.start + first : nullptr);
    std::copy(found.begin(), found.end(), cluster + first);
  });
}

}  // namespace

void multilevel_clusters(const ClusteringProblem& problem, int64_t* cluster, const Runtime& runtime) {
  if (problem.graph.int64_index) {
    run<int64_t>(problem, cluster, runtime);
  } else {
    run<int32_t>(problem, cluster, runtime);
  }
}

}  // namespace hierpool::cpu
