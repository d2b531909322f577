#include "cpu/row_kernels.h"
#include "cpu/vec_scalar.h"

namespace hierpool::cpu::scalar {

#include "cpu/activation_rows_impl.h"
#include "cpu/asymmetric_rows_impl.h"
#include "cpu/bce_rows_impl.h"
#include "cpu/difference_rows_impl.h"
#include "cpu/gather_rows_impl.h"
#include "cpu/gemm_rows_impl.h"
#include "cpu/row_kernels_impl.h"
}  // namespace hierpool::cpu::scalar
