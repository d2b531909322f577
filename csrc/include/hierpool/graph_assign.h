// Contract of assigning each node of a batch of graphs to at most one cluster, on the CPU.
#pragma once

#include <cstdint>

namespace hierpool {

// The nodes of a batch. A row is a node; rows are sorted by graph.
struct BatchRows {
  int64_t nodes, graphs;
  const int64_t* ptr;    // [graphs + 1]: first row of each graph
  const int64_t* order;  // [nodes]: the caller's number of each row; null: the same
};

// What an assignment consists of; I is int32_t or int64_t, M the number of rows with a cluster.
template <typename I>
struct AssignedRows {
  I* of_row;   // [nodes]: cluster of each row, counted over all graphs; -1: none
  I* rowptr;   // [nodes + 1]: number of rows with a cluster before each row
  I* cluster;  // [M]: cluster of the rows that have one; null where all have
  I* first;    // [clusters + 1]: first of the rows of each cluster, in `row`
  I* row;      // [M]: rows by cluster, ascending in each
  I* entry;  // [M]: how many rows with a cluster are before that one; null where all have one: as many as `row` says
};

namespace cpu {

// cluster_ptr [graphs + 1]: first cluster of each graph, for `cluster` [nodes], the cluster of each of the caller's nodes
// in its graph or -1, and for `counts` [graphs], the numbers of clusters, or as many as there are if null. Returns the
// number of rows with a cluster, or -1 if a cluster does not exist.
int64_t assign_count(const BatchRows& rows, const int64_t* cluster, const int64_t* counts,
                     int64_t* cluster_ptr);

// The same for the caller's nodes `index` [count], each of which is a cluster. cluster [nodes] becomes the cluster of each
// of the caller's nodes in its graph, and position [count], unless null, where each cluster of the batch is in `index`. -1
// if a node does not exist or is there twice.
int64_t assign_kept(const BatchRows& rows, int64_t count, const int64_t* index, int64_t* cluster,
                    int64_t* position, int64_t* cluster_ptr);

// The same for the head of each of the caller's nodes, a node of the same graph that is its own head: the cluster of a
// node is the number of its head among those of the graph, in the order of rows. With `pairs`, the other node of the pair
// that it is in instead, or -1; then the head of a pair is its smaller node.
void assign_heads(const BatchRows& rows, const int64_t* head, bool pairs, int64_t* cluster,
                  int64_t* cluster_ptr);

template <typename I>
void assign_rows(const BatchRows& rows, const int64_t* cluster, const int64_t* cluster_ptr,
                 const AssignedRows<I>& out);

}  // namespace cpu
}  // namespace hierpool
