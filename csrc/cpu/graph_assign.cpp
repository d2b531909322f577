#include "hierpool/graph_assign.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace hierpool::cpu {
namespace {

int64_t caller_of(const BatchRows& rows, int64_t row) { return rows.order ? rows.order[row] : row; }

}  // namespace

int64_t assign_count(const BatchRows& rows, const int64_t* cluster, const int64_t* counts,
                     int64_t* cluster_ptr) {
  cluster_ptr[0] = 0;
  int64_t assigned = 0;
  for (int64_t b = 0; b < rows.graphs; ++b) {
    int64_t least = 0, most = -1;
    for (int64_t i = rows.ptr[b]; i < rows.ptr[b + 1]; ++i) {
      const int64_t own = cluster[caller_of(rows, i)];
      least = std::min(least, own);
      most = std::max(most, own);
      assigned += own >= 0;
    }
    const int64_t count = counts ? counts[b] : most + 1;
    if (least < -1 || most >= count) return -1;
    cluster_ptr[b + 1] = cluster_ptr[b] + count;
  }
  return assigned;
}

int64_t assign_kept(const BatchRows& rows, int64_t count, const int64_t* index, int64_t* cluster,
                    int64_t* position, int64_t* cluster_ptr) {
  std::vector<int64_t> rank(rows.order ? static_cast<size_t>(rows.nodes) : 0);
  for (size_t i = 0; i < rank.size(); ++i) rank[static_cast<size_t>(rows.order[i])] = static_cast<int64_t>(i);
  std::vector<int64_t> graph(static_cast<size_t>(position ? count : 0));
  std::fill_n(cluster, rows.nodes, int64_t{-1});
  std::fill_n(cluster_ptr, rows.graphs + 1, int64_t{0});
  for (int64_t p = 0, b = 0; p < count; ++p) {
    const int64_t node = index[p];
    if (node < 0 || node >= rows.nodes || cluster[node] >= 0) return -1;
    const int64_t row = rank.empty() ? node : rank[static_cast<size_t>(node)];
    if (row < rows.ptr[b] || row >= rows.ptr[b + 1])  // not the graph of the node before
      b = std::upper_bound(rows.ptr, rows.ptr + rows.graphs + 1, row) - rows.ptr - 1;
    if (position) graph[static_cast<size_t>(p)] = b;
    cluster[node] = cluster_ptr[b + 1]++;
  }
  std::partial_sum(cluster_ptr, cluster_ptr + rows.graphs + 1, cluster_ptr);
  for (int64_t p = 0; position && p < count; ++p) {
    position[cluster_ptr[graph[static_cast<size_t>(p)]] + cluster[index[p]]] = p;
  }
  return count;
}

void assign_heads(const BatchRows& rows, const int64_t* head, bool pairs, int64_t* cluster,
                  int64_t* cluster_ptr) {
  const auto head_of = [&](int64_t node) {
    const int64_t other = head[node];
    return !pairs ? other : other < 0 ? node : std::min(node, other);
  };
  cluster_ptr[0] = 0;
  for (int64_t b = 0; b < rows.graphs; ++b) {
    int64_t count = 0;
    for (int64_t i = rows.ptr[b]; i < rows.ptr[b + 1]; ++i) {
      const int64_t node = caller_of(rows, i);
      cluster[node] = count;  // read of heads only, and a branch would be hard to predict
      count += head_of(node) == node;
    }
    cluster_ptr[b + 1] = cluster_ptr[b] + count;
  }
  for (int64_t node = 0; node < rows.nodes; ++node) cluster[node] = cluster[head_of(node)];
}

template <typename I>
void assign_rows(const BatchRows& rows, const int64_t* cluster, const int64_t* cluster_ptr,
                 const AssignedRows<I>& out) {
  const int64_t clusters = cluster_ptr[rows.graphs];
  std::fill_n(out.first, clusters + 1, I(0));
  for (int64_t b = 0; b < rows.graphs; ++b) {
    for (int64_t i = rows.ptr[b]; i < rows.ptr[b + 1]; ++i) {
      const int64_t own = cluster[caller_of(rows, i)];
      const I k = static_cast<I>(own < 0 ? -1 : cluster_ptr[b] + own);
      out.of_row[i] = k;
      out.first[k < 0 ? clusters : k] += k >= 0;
    }
  }
  // From the last row to the first, so that `first` ends as what it is called.
  std::partial_sum(out.first, out.first + clusters + 1, out.first);
  if (out.first[clusters] == rows.nodes) {  // all have a cluster
    std::iota(out.rowptr, out.rowptr + rows.nodes + 1, I(0));
    for (int64_t i = rows.nodes - 1; i >= 0; --i) out.row[--out.first[out.of_row[i]]] = static_cast<I>(i);
    return;
  }
  I count = 0;
  for (int64_t i = 0; i < rows.nodes; ++i) {
    out.rowptr[i] = count;
    if (out.of_row[i] >= 0) out.cluster[count++] = out.of_row[i];
  }
  out.rowptr[rows.nodes] = count;
  for (int64_t i = rows.nodes - 1; i >= 0; --i) {
    if (out.of_row[i] < 0) continue;
    const I place = --out.first[out.of_row[i]];
    out.row[place] = static_cast<I>(i);
    out.entry[place] = out.rowptr[i];
  }
}

template void assign_rows(const BatchRows&, const int64_t*, const int64_t*, const AssignedRows<int32_t>&);
template void assign_rows(const BatchRows&, const int64_t*, const int64_t*, const AssignedRows<int64_t>&);

}  // namespace hierpool::cpu
