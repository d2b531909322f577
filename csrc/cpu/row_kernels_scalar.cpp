#include "cpu/row_kernels.h"
#include "cpu/vec_scalar.h"

namespace hierpool::cpu::scalar {

#include "cpu/row_kernels_impl.h"
}  // namespace hierpool::cpu::scalar
