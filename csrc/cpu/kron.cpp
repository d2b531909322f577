// Eliminated nodes are replaced one after the other by edges among their neighbours: a star by a mesh. All terms are
// positive, so that every weight is as exact as a product.
#include "hierpool/kron.h"

#include <algorithm>
#include <limits>
#include <queue>
#include <utility>
#include <vector>

#include "cpu/component_lists.h"
#include "cpu/tasks.h"

namespace hierpool::cpu {
namespace {

struct Link {
  int64_t node;  // eliminated nodes of the component first, then its neighbours that are kept
  double weight;
};
using Links = std::vector<Link>;  // ascending nodes

// The connected component of some eliminated nodes, with its neighbours that are kept.
class Mesh {
 public:
  Mesh(int64_t eliminated, int64_t kept)
      : eliminated_(eliminated),
        kept_(kept),
        links_(static_cast<size_t>(eliminated)),
        fill_(static_cast<size_t>(kept * kept)) {}

  Links& links(int64_t node) { return links_[static_cast<size_t>(node)]; }

  // fill()[i * kept + j]: the weight between neighbours i and j.
  const std::vector<double>& fill() const { return fill_; }

  // Nodes with few neighbours first.
  void eliminate() {
    using Rank = std::pair<size_t, int64_t>;
    std::priority_queue<Rank, std::vector<Rank>, std::greater<>> queue;
    for (int64_t i = 0; i < eliminated_; ++i) queue.push({links(i).size(), i});
    std::vector<uint8_t> done(static_cast<size_t>(eliminated_));
    while (!queue.empty()) {
      const auto [degree, i] = queue.top();
      queue.pop();
      if (done[static_cast<size_t>(i)] != 0 || degree != links(i).size()) continue;
      done[static_cast<size_t>(i)] = 1;
      eliminate(i, queue);
    }
  }

 private:
  template <typename Queue>
  void eliminate(int64_t i, Queue& queue) {
    const Links star = std::move(links(i));
    double total = 0;
    for (const Link& link : star) total += link.weight;
    for (const Link& one : star) {
      if (one.node >= eliminated_) {
        double* const row = fill_.data() + (one.node - eliminated_) * kept_;
        for (const Link& other : star) {
          if (other.node >= eliminated_) row[other.node - eliminated_] += one.weight * other.weight / total;
        }
      } else {
        replace(one, i, star, total);
        queue.push({links(one.node).size(), one.node});
      }
    }
  }

  // The links of node one.node without that to node i, and with those to the other nodes of its star.
  void replace(const Link& one, int64_t i, const Links& star, double total) {
    merged_.clear();
    const Links& own = links(one.node);
    const auto at = [](const Links& links, size_t k) {
      return k < links.size() ? links[k].node : std::numeric_limits<int64_t>::max();
    };
    for (size_t a = 0, b = 0; a < own.size() || b < star.size();) {
      const int64_t next = std::min(at(own, a), at(star, b));
      double weight = 0;
      if (at(own, a) == next) weight += own[a++].weight;
      if (at(star, b) == next) weight += one.weight * star[b++].weight / total;
      if (next != i && next != one.node) merged_.push_back({next, weight});
    }
    links(one.node).swap(merged_);
  }

  int64_t eliminated_, kept_;
  std::vector<Links> links_;  // of the eliminated nodes
  std::vector<double> fill_;
  Links merged_;
};

template <typename I>
class Reduction {
 public:
  Reduction(const KronReduction& r, const Runtime& runtime)
      : r_(r),
        runtime_(runtime),
        rowptr_(static_cast<const I*>(r.graph.rowptr)),
        col_(static_cast<const I*>(r.graph.col)),
        value_(static_cast<const double*>(r.graph.value)),
        place_(static_cast<const I*>(r.place)),
        inner_(inner_entries()),
        lists_(r.graph, inner_.data(), [&](int64_t i) { return place_[i] < 0; }),
        border_(static_cast<size_t>(lists_.count())) {}

  int64_t run() {
    run_tasks(runtime_, lists_.count(), [&](int64_t c, int64_t) { find_border(c); });
    std::vector<int64_t> start{0};
    for (const auto& border : border_)
      start.push_back(start.back() + std::ssize(border) * (std::ssize(border) - 1));
    if (start.back() > r_.most_entries) return start.back();
    auto* const row = static_cast<int64_t*>(r_.allocate(r_.context, KronReduction::row, start.back()));
    auto* const col = static_cast<int64_t*>(r_.allocate(r_.context, KronReduction::col, start.back()));
    auto* const value = static_cast<double*>(r_.allocate(r_.context, KronReduction::value, start.back()));
    run_tasks(runtime_, lists_.count(), [&](int64_t c, int64_t) {
      const auto& border = border_[static_cast<size_t>(c)];
      if (border.size() < 2) return;
      Mesh mesh = mesh_of(c);
      mesh.eliminate();
      int64_t e = start[static_cast<size_t>(c)];
      for (size_t i = 0; i < border.size(); ++i) {
        for (size_t j = 0; j < border.size(); ++j) {
          if (i == j) continue;
          row[e] = place_[border[i]], col[e] = place_[border[j]];
          value[e++] = mesh.fill()[i * border.size() + j];
        }
      }
    });
    return start.back();
  }

 private:
  bool joins(int64_t i, I e) const { return col_[e] != i && (value_ == nullptr || value_[e] > 0); }

  // Entries that join two eliminated nodes.
  Buffer<uint8_t> inner_entries() const {
    Buffer<uint8_t> inner(rowptr_[r_.graph.rows]);
    for (int64_t i = 0; i < r_.graph.rows; ++i) {
      for (I e = rowptr_[i]; e < rowptr_[i + 1]; ++e) {
        inner.data()[e] = place_[i] < 0 && place_[col_[e]] < 0 && joins(i, e);
      }
    }
    return inner;
  }

  // The neighbours of a component that are kept.
  void find_border(int64_t c) {
    auto& border = border_[static_cast<size_t>(c)];
    for (int64_t m = 0; m < lists_.size(c); ++m) {
      const int64_t i = lists_.nodes(c)[m];
      for (I e = rowptr_[i]; e < rowptr_[i + 1]; ++e) {
        if (place_[col_[e]] >= 0 && joins(i, e)) border.push_back(col_[e]);
      }
    }
    if (lists_.size(c) == 1) return;  // ascending
    std::sort(border.begin(), border.end());
    border.erase(std::unique(border.begin(), border.end()), border.end());
  }

  Mesh mesh_of(int64_t c) const {
    const auto& border = border_[static_cast<size_t>(c)];
    const int64_t n = lists_.size(c);
    Mesh mesh(n, std::ssize(border));
    for (int64_t m = 0; m < n; ++m) {
      const int64_t i = lists_.nodes(c)[m];
      Links& links = mesh.links(m);
      for (I e = rowptr_[i]; e < rowptr_[i + 1]; ++e) {
        if (!joins(i, e)) continue;
        const int64_t k = col_[e];
        const int64_t number = place_[k] < 0
                                   ? lists_.place.data()[k]
                                   : n + (std::lower_bound(border.begin(), border.end(), k) - border.begin());
        links.push_back({number, value_ == nullptr ? 1.0 : value_[e]});
      }
      std::sort(links.begin(), links.end(), [](const Link& a, const Link& b) { return a.node < b.node; });
    }
    return mesh;
  }

  const KronReduction& r_;
  const Runtime& runtime_;
  const I* rowptr_;
  const I* col_;
  const double* value_;
  const I* place_;
  Buffer<uint8_t> inner_;
  ComponentLists lists_;
  std::vector<std::vector<int64_t>> border_;  // of each component
};

}  // namespace

int64_t kron_reduction(const KronReduction& r, const Runtime& runtime) {
  return r.graph.int64_index ? Reduction<int64_t>(r, runtime).run() : Reduction<int32_t>(r, runtime).run();
}

}  // namespace hierpool::cpu
