#include "cpu/row_kernels.h"
#include "cpu/vec_avx2.h"

namespace hierpool::cpu::avx2 {
#include "cpu/rows/table.h"
#include "cpu/vec_math.h"
}  // namespace hierpool::cpu::avx2
