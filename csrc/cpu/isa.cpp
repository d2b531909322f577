#include "cpu/isa.h"

#ifdef HIERPOOL_X86
#include <cpuid.h>
#endif
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace hierpool::cpu {

namespace {

constexpr Isa kAll[] = {Isa::scalar, Isa::avx2, Isa::avx512, Isa::amx};

template <typename Isas>
std::string names_of(const Isas& isas) {
  std::string names;
  for (Isa isa : isas) {
    if (!names.empty()) names += ", ";
    names += isa_name(isa);
  }
  return names;
}

#ifdef HIERPOOL_X86
// A process has to ask for the memory of tile registers, which Linux grants from 5.16 on.
bool grants_tiles() {
#if defined(__linux__) && defined(SYS_arch_prctl)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

// AMX-TILE, AMX-BF16 and AVX512-BF16, which not every compiler can ask for by name.
bool has_tiles() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d >> 24 & 1) == 0 || (d >> 22 & 1) == 0) return false;
  if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || (a >> 5 & 1) == 0) return false;
  return grants_tiles();
}
#endif

}  // namespace

std::string_view isa_name(Isa isa) {
  switch (isa) {
    case Isa::avx2: return "avx2";
    case Isa::avx512: return "avx512";
    case Isa::amx: return "amx";
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
  if (!avx512) return Isa::avx2;
  static const bool amx = has_tiles();
  return amx ? Isa::amx : Isa::avx512;
#else
  return Isa::scalar;
#endif
}

bool is_intel() {
#ifdef HIERPOOL_X86
  return __builtin_cpu_is("intel");
#else
  return false;
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
        "', which this machine or this build does not support; supported: " + names_of(supported_isas()));
  }
  throw std::invalid_argument("HIERPOOL_CPU_ISA must be one of " + names_of(kAll) + ", got '" +
                              std::string(value) + "'");
}

}  // namespace hierpool::cpu
