#include "cpu/row_kernels.h"

namespace hierpool::cpu {

namespace scalar {
extern const IsaKernels kKernels;
}
#ifdef HIERPOOL_X86
namespace avx2 {
extern const IsaKernels kKernels;
}
namespace avx512 {
extern const IsaKernels kKernels;
}
#endif

const IsaKernels& isa_kernels(Isa isa) {
  switch (isa) {
#ifdef HIERPOOL_X86
    case Isa::amx:
    case Isa::avx512: return avx512::kKernels;
    case Isa::avx2: return avx2::kKernels;
#endif
    default: return scalar::kKernels;
  }
}

}  // namespace hierpool::cpu
