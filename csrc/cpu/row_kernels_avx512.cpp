#include "cpu/row_kernels.h"
#include "cpu/vec_avx512.h"

namespace hierpool::cpu::avx512 {
#include "cpu/activation_rows_impl.h"
#include "cpu/asymmetric_rows_impl.h"
#include "cpu/bce_rows_impl.h"
#include "cpu/difference_rows_impl.h"
#include "cpu/gather_rows_impl.h"
#include "cpu/gemm_rows_impl.h"
#include "cpu/row_kernels_impl.h"
#include "cpu/vec_math.h"
}  // namespace hierpool::cpu::avx512
