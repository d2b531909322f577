// Contract of sparse matrices in compressed rows on the CPU.
#pragma once

#include <cstdint>

namespace hierpool {

// Indices are int64 if `int64_index`, else int32. The columns of a row ascend and differ.
struct Csr {
  int64_t rows;
  bool int64_index;
  const void* rowptr;  // [rows + 1]
  const void* col;     // [rowptr[rows]]
  const void* value;   // [rowptr[rows]] of the accumulation type, or null: all ones
};

}  // namespace hierpool
