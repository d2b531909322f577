#include "cpu/row_kernels.h"
#include "cpu/vec_avx512.h"

namespace hierpool::cpu::avx512 {
#include "cpu/rows/table.h"
#include "cpu/vec_math.h"
}  // namespace hierpool::cpu::avx512
