#include "cpu/isa.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace hierpool::cpu {

namespace {

constexpr Isa kAll[] = {Isa::scalar, Isa::avx2, Isa::avx512};

std::string supported_names() {
  std::string names;
  for (Isa isa : supported_isas()) {
    if (!names.empty()) names += ", ";
    names += isa_name(isa);
  }
  return names;
}

}  // namespace

std::string_view isa_name(Isa isa) {
  switch (isa) {
    case Isa::avx2: return "avx2";
    case Isa::avx512: return "avx512";
    case Isa::scalar: break;
  }
  return "scalar";
}

// HIERPOOL_X86 is defined by the build where the AVX kernels are part of the binary.
Isa detected_isa() {
#ifdef HIERPOOL_X86
  // F16C is older than AVX2 and part of every processor with it; not every compiler can ask for it by name.
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return Isa::scalar;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  return avx512 ? Isa::avx512 : Isa::avx2;
#else
  return Isa::scalar;
#endif
}

std::vector<Isa> supported_isas() {
  std::vector<Isa> isas;
  for (Isa isa : kAll) {
    if (isa <= detected_isa()) isas.push_back(isa);
  }
  return isas;
}

Isa isa_in_force() {
  const char* value = std::getenv("HIERPOOL_CPU_ISA");
  if (value == nullptr || *value == '\0') return detected_isa();
  for (Isa isa : kAll) {
    if (isa_name(isa) != value) continue;
    if (isa <= detected_isa()) return isa;
    throw std::invalid_argument(
        "HIERPOOL_CPU_ISA is '" + std::string(value) +
        "', which this machine or this build does not support; supported: " + supported_names());
  }
  throw std::invalid_argument("HIERPOOL_CPU_ISA must be one of scalar, avx2, avx512, got '" +
                              std::string(value) + "'");
}

}  // namespace hierpool::cpu
