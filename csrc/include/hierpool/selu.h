// Contract of SELU on the CPU: scale x where x > 0, else scale alpha (exp(x) - 1).
#pragma once

#include <cstdint>

#include "hierpool/runtime.h"

namespace hierpool::cpu {

// y[count] becomes selu(y). T is double where `is_double`, else float.
void selu_fwd(void* y, int64_t count, bool is_double, const Runtime& runtime);

// dx[count] from dy[count] and y = selu(x); dx may be dy
void selu_bwd(void* dx, const void* dy, const void* y, int64_t count, bool is_double, const Runtime& runtime);

}  // namespace hierpool::cpu
