// Contract of building sparse matrices in compressed rows on the CPU. Everything is linear in nodes and edges.
#pragma once

#include <cstdint>

#include "hierpool/csr.h"
#include "hierpool/runtime.h"

namespace hierpool {

// The first invalid value of the input.
struct CsrError {
  enum Kind : int32_t {
    none,
    row_range,      // edge `first` has a row outside the matrix
    column_range,   // entry or edge `first` has a column outside the matrix
    crossing,       // an entry joins rows `first` and `second`, which belong to different graphs
    batch_range,    // node `first` has no graph in the batch
    graph_pointer,  // the first nodes of graphs do not ascend from 0 to the number of nodes
    row_pointer,    // the first entries of rows do not ascend from 0 to the number of entries
  };
  Kind kind = none;
  int64_t first = 0, second = 0;
};

// The edges as given.
struct Edges {
  int64_t nodes, edges;
  bool int64_index;     // row and col are int64, else int32
  const void* row;      // [edges]
  const void* col;      // [edges]
  const int64_t* rank;  // [nodes]: the row of each node; null: its number
  int64_t graphs;
  const int64_t* ptr;  // [graphs + 1]: first row of each graph
  bool double_weight;  // weight is double, else float
  const void* weight;  // [edges], or null: all ones
};

struct GraphBuild {
  Edges edges;
  bool merge;  // equal edges become one entry; otherwise each becomes its own
  bool want_slot;
  bool int64_index;  // of the outputs

  // Allocates an output once its size is known; called at most once for each.
  enum Output : int32_t { rowptr, col, value, slot };
  void* (*allocate)(void* context, Output output, int64_t count);
  void* context;
};

struct BuiltGraph {
  CsrError error;
  // The edges were sorted by row and column without duplicates: entry e is edge e. Values and slots, which would be
  // copies, are not allocated.
  bool as_given;
  bool has_value;  // weights were given, or merged: sums of weights, or of ones (then float)
  Csr matrix;      // null if there is an error
};

struct CsrInspection {
  CsrError error;
  bool canonical;
};

// Some blocks of a block-diagonal matrix. Block b has the rows ptr[b] to ptr[b + 1] - 1, and columns likewise.
struct CsrBlocks {
  Csr a;
  const int64_t* ptr;      // [blocks of a + 1]
  const int64_t* col_ptr;  // [blocks of a + 1]
  int64_t count;
  const int64_t* index;  // [count], numbers of blocks in any order
};

struct CsrBlocksSize {
  int64_t rows, entries;
};

namespace cpu {

BuiltGraph csr_build(const GraphBuild& build, const Runtime& runtime);

// ptr[graphs + 1] of `batch`, int64 [nodes] with values in [0, graphs). Returns whether it was sorted; if not, order
// and rank [nodes] are the nodes in the order of graphs, and the place of each node in it.
bool csr_sort_batch(int64_t nodes, const int64_t* batch, int64_t graphs, int64_t* ptr, int64_t* order,
                    int64_t* rank);

// Whether ptr ascends from 0 to `nodes`.
bool csr_pointers_ascend(int64_t count, bool int64_index, const void* ptr, int64_t last);

// The transpose of a matrix; source[e] is the entry of `a` that entry e of it comes from.
void csr_transpose(const Csr& a, int64_t columns, void* rowptr, void* col, void* source,
                   const Runtime& runtime);

// Whether a matrix whose columns ascend and differ equals its transpose, bit for bit.
bool csr_is_symmetric(const Csr& a, int64_t value_bytes, const Runtime& runtime);

// Whether `a` is a matrix with one block for every graph and, if so, whether its columns ascend and differ.
CsrInspection csr_inspect(const Csr& a, int64_t entries, int64_t graphs, const int64_t* ptr,
                          const Runtime& runtime);

// The range of each element, of which range r has those from offsets[r] to before offsets[r + 1], of all `count` ranges
// after the first element, offsets[0]. Both arrays have the type of indices.
void csr_ranges(int64_t count, bool int64_index, const void* offsets, void* range, const Runtime& runtime);

CsrBlocksSize csr_blocks_size(const CsrBlocks& blocks);

// The matrix of the blocks: its first row and column of each, ptr and col_ptr [count + 1], and rowptr and col. row [rows]
// and entry [entries] are the rows and entries of `a` that they come from; entry may be null.
void csr_blocks(const CsrBlocks& blocks, int64_t* ptr, int64_t* col_ptr, void* rowptr, void* col,
                int64_t* row, int64_t* entry);

}  // namespace cpu
}  // namespace hierpool
