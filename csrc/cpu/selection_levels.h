// A graph and the coarser graphs that come of merging its nodes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "cpu/buffer.h"
#include "cpu/hash.h"
#include "hierpool/graph_contract.h"
#include "hierpool/selection.h"

namespace hierpool::cpu {

// One undirected graph without self-loops.
template <typename I>
struct Level {
  I nodes = 0;
  Buffer<I> rowptr, col;
  Buffer<double> weight;  // positive; null: all ones
  Buffer<double> volume;  // [nodes] weights of the rows, those of self-loops too
  Buffer<I> size;         // [nodes] of the finest nodes
  std::vector<I> parent;  // [nodes] node of the next level

  double weight_of(I entry) const { return weight.data() ? weight.data()[entry] : 1.0; }
};

// Graph b of the problem, without self-loops and entries of weight 0.
template <typename I>
Level<I> finest_level(const ClusteringProblem& problem, int64_t b) {
  const int64_t first = problem.blocks.ptr[b];
  const auto* const rowptr = static_cast<const I*>(problem.graph.rowptr) + first;
  const auto* const col = static_cast<const I*>(problem.graph.col);
  const auto* const value = static_cast<const double*>(problem.graph.value);
  Level<I> out;
  out.nodes = static_cast<I>(problem.blocks.ptr[b + 1] - first);
  out.rowptr = Buffer<I>(out.nodes + 1);
  out.col = Buffer<I>(rowptr[out.nodes] - rowptr[0]);
  if (value) out.weight = Buffer<double>(rowptr[out.nodes] - rowptr[0]);
  out.volume = Buffer<double>(out.nodes);
  out.size = Buffer<I>(out.nodes);
  std::fill_n(out.size.data(), out.nodes, I(1));
  I count = 0;
  for (I i = 0; i < out.nodes; ++i) {
    out.rowptr.data()[i] = count;
    double volume = 0;
    for (I e = rowptr[i]; e < rowptr[i + 1]; ++e) {
      const I j = static_cast<I>(col[e] - first);
      const double w = value ? value[e] : 1.0;
      volume += w;
      if (j == i || w == 0) continue;
      out.col.data()[count] = j;
      if (value) out.weight.data()[count] = w;
      ++count;
    }
    out.volume.data()[i] = volume;
  }
  out.rowptr.data()[out.nodes] = count;
  return out;
}

// Renumbers clusters [nodes], numbers below `nodes`, in the order of their first nodes; returns how many there are.
template <typename I>
I renumber(std::vector<I>& cluster) {
  std::vector<I> number(cluster.size(), I(-1));
  I count = 0;
  for (I& c : cluster) {
    I& own = number[static_cast<size_t>(c)];
    if (own < 0) own = count++;
    c = own;
  }
  return count;
}

// The graph of the `count` clusters fine.parent.
template <typename I>
Level<I> coarser_level(const Level<I>& fine, I count, const Runtime& runtime) {
  std::vector<I> first(static_cast<size_t>(count) + 1, 0), node(static_cast<size_t>(fine.nodes));
  Level<I> out;
  out.nodes = count;
  out.volume = Buffer<double>(count);
  out.size = Buffer<I>(count);
  std::fill_n(out.volume.data(), count, 0.0);
  std::fill_n(out.size.data(), count, I(0));
  for (I i = 0; i < fine.nodes; ++i) {
    const auto c = static_cast<size_t>(fine.parent[static_cast<size_t>(i)]);
    ++first[c];
    out.volume.data()[c] += fine.volume.data()[i];
    out.size.data()[c] += fine.size.data()[i];
  }
  for (size_t c = 1; c < first.size(); ++c) first[c] += first[c - 1];
  for (I i = fine.nodes; i-- > 0;) {
    node[static_cast<size_t>(--first[static_cast<size_t>(fine.parent[static_cast<size_t>(i)])])] = i;
  }
  GraphContract c{};
  c.graph = {fine.nodes, sizeof(I) == 8, fine.rowptr.data(), fine.col.data(), fine.weight.data()};
  c.cluster = fine.parent.data();
  c.members = {count, first.data(), node.data()};
  c.loops = Loops::drop;
  c.symmetric = c.want_sum = c.double_value = true;
  c.context = &out;
  c.allocate = [](void* context, GraphContract::Output output, int64_t n) -> void* {
    auto& level = *static_cast<Level<I>*>(context);
    if (output == GraphContract::value) return (level.weight = Buffer<double>(n)).data();
    return ((output == GraphContract::rowptr ? level.rowptr : level.col) = Buffer<I>(n)).data();
  };
  graph_contract(c, runtime);
  return out;
}

// A random order of the nodes 0 .. nodes - 1, from the first to the last.
template <typename I>
std::vector<I> random_order(I nodes, uint64_t seed) {
  std::vector<I> order(static_cast<size_t>(nodes));
  for (I i = 0; i < nodes; ++i) order[static_cast<size_t>(i)] = i;
  for (I i = nodes; i > 1; --i) {
    seed = mix(seed);
    std::swap(order[static_cast<size_t>(i - 1)], order[static_cast<size_t>(seed % static_cast<uint64_t>(i))]);
  }
  return order;
}

}  // namespace hierpool::cpu
