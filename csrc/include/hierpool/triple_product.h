// Contract of S^T A S of sparse matrices, with any number of entries in a row of S, on the CPU.
#pragma once

#include <cstdint>

#include "hierpool/csr.h"
#include "hierpool/graph_contract.h"
#include "hierpool/runtime.h"

namespace hierpool {

// Indices of all arrays have the width of those of A. T is double if `is_double`, else float.
struct TripleProduct {
  Csr a;              // [nodes, nodes]
  Csr s;              // [nodes, clusters], of values if not only places are wanted
  Members members;    // the transpose of S,
  const void* entry;  // [entries of S], and for each of its nodes the entry of S
  Loops loops;
  bool symmetric;  // A equals its transpose: the product does so, too
  bool is_double;
};

namespace cpu {

// The results do not depend on runtime.threads. Sums are taken in double.

// The places of the entries of the product: rowptr [clusters + 1], int64 whatever the width of other indices, and, if
// there are at most `most`, the columns, which ascend in every row, in an array that allocate(context, entries) makes.
// Returns whether there are.
bool triple_product_places(const TripleProduct& p, int64_t most, int64_t* rowptr,
                           void* (*allocate)(void*, int64_t), void* context, const Runtime& runtime);

// out [entries of product, and clusters if loops are apart], of the product whose places are given.
void triple_product_fwd(const TripleProduct& p, const Csr& product, void* out, const Runtime& runtime);

// The gradients dweight [entries of S] and dvalue [entries of A] of the values, either of which may be null, from
// that of out. `a_t`: the transpose of A, if it is not symmetric and dweight is wanted.
void triple_product_bwd(const TripleProduct& p, const Csr& a_t, const Csr& product, const void* dout,
                        void* dweight, void* dvalue, const Runtime& runtime);

}  // namespace cpu
}  // namespace hierpool
