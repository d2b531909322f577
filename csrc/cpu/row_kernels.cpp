#include "cpu/row_kernels.h"

namespace hierpool::cpu {

#define HIERPOOL_DECLARE(isa)                  \
  namespace isa {                              \
  extern const RowKernels<float> kFloatRows;   \
  extern const RowKernels<double> kDoubleRows; \
  }
HIERPOOL_DECLARE(scalar)
#ifdef HIERPOOL_X86
HIERPOOL_DECLARE(avx2)
HIERPOOL_DECLARE(avx512)
#endif
#undef HIERPOOL_DECLARE

template <>
const RowKernels<float>& row_kernels<float>([[maybe_unused]] Isa isa) {
#ifdef HIERPOOL_X86
  if (isa == Isa::avx512) return avx512::kFloatRows;
  if (isa == Isa::avx2) return avx2::kFloatRows;
#endif
  return scalar::kFloatRows;
}

template <>
const RowKernels<double>& row_kernels<double>([[maybe_unused]] Isa isa) {
#ifdef HIERPOOL_X86
  if (isa == Isa::avx512) return avx512::kDoubleRows;
  if (isa == Isa::avx2) return avx2::kDoubleRows;
#endif
  return scalar::kDoubleRows;
}

}  // namespace hierpool::cpu
