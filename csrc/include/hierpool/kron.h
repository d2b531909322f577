// Contract of the Kron reduction of a sparse matrix on the CPU.
#pragma once

#include <cstdint>

#include "hierpool/csr.h"
#include "hierpool/runtime.h"

namespace hierpool {

struct KronReduction {
  Csr graph;  // symmetric, of double or no values, which are not negative; the diagonal is ignored
  // [rows] number of each node that is kept; negative: it is eliminated. Indices have the width of those of the graph.
  const void* place;
  int64_t most_entries;

  // Allocates the outputs once their size is known; not called if there are more than most_entries.
  enum Output : int32_t { row, col, value };
  void* (*allocate)(void* context, Output output, int64_t count);
  void* context;
};

namespace cpu {

// Entries that eliminated nodes add among those that are kept: row, col int64 and value double, several of which may join
// the same nodes. For each entry there is one in the other direction, of the same value, and the entries of two nodes
// have one order in both directions. Returns their number. The result does not depend on runtime.threads.
int64_t kron_reduction(const KronReduction& reduction, const Runtime& runtime);

}  // namespace cpu
}  // namespace hierpool
