#include "cpu/row_kernels.h"
#include "cpu/vec_scalar.h"

namespace hierpool::cpu::scalar {
#include "cpu/rows/table.h"
}  // namespace hierpool::cpu::scalar
