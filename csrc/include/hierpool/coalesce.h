// Contract of the values of entries that several entries of another matrix are merged into, on the CPU.
#pragma once

#include <cstdint>

#include "hierpool/csr.h"
#include "hierpool/graph_contract.h"
#include "hierpool/runtime.h"

namespace hierpool {

// What is taken of several values; of equal extremes the first counts.
enum class Reduce : int32_t { sum, mean, max, min, mul };

// Indices of all arrays have the width of those of the graph. T is double if `is_double`, else float.
struct Coalesce {
  Csr graph;         // whose values are given; the columns are not read
  Members members;   // the nodes of each row of the merged matrix
  const void* slot;  // [entries of the graph]: place in the result; negative: none
  Csr merged;        // without values
  bool loops;        // the result has an element for the loop of each row behind those of the entries
  bool symmetric;    // the graph equals its transpose, with all values: the result does so, too
  Reduce reduce;
  bool is_double;
  int64_t width = 1;  // values of each entry
};

namespace cpu {

// The results do not depend on runtime.threads. Sums and products are taken in double.

// out and source [entries of merged, and its rows if `loops`, width]: the values, and for each the number of its entries
// or, for extremes, the entry that counts; the number of entries of the graph where there is none, whose value is 0.
void coalesce_fwd(const Coalesce& c, void* out, void* source, const Runtime& runtime);

// dvalue [entries of the graph, width]
void coalesce_bwd(const Coalesce& c, const void* source, const void* dout, void* dvalue,
                  const Runtime& runtime);

}  // namespace cpu
}  // namespace hierpool
