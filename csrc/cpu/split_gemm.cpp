#include "cpu/split_gemm.h"

namespace hierpool::cpu {

#ifdef HIERPOOL_X86
namespace amx {
void split_gemm(int64_t m, int64_t n, const SplitProduct* products, int64_t count, float* c, int64_t ldc,
                bool accumulate);
}
#endif

SplitGemm split_gemm([[maybe_unused]] Isa isa) {
#ifdef HIERPOOL_X86
  if (isa == Isa::amx) return amx::split_gemm;
#endif
  return nullptr;
}

}  // namespace hierpool::cpu
