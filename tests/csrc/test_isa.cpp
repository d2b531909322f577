// The choice of instruction set follows HIERPOOL_CPU_ISA at every call.
#include <stdexcept>

#include "testing.h"

using hierpool::cpu::detected_isa;
using hierpool::cpu::Isa;
using hierpool::cpu::isa_in_force;
using hierpool::cpu::isa_name;
using hierpool::cpu::supported_isas;

TEST(isa) {
  unsetenv("HIERPOOL_CPU_ISA");
  EXPECT(isa_in_force() == detected_isa());
  setenv("HIERPOOL_CPU_ISA", "", 1);
  EXPECT(isa_in_force() == detected_isa());

  EXPECT(supported_isas().front() == Isa::scalar);
  EXPECT(supported_isas().back() == detected_isa());
  for (Isa isa : supported_isas()) {
    setenv("HIERPOOL_CPU_ISA", std::string(isa_name(isa)).c_str(), 1);
    EXPECT(isa_in_force() == isa);
  }
  for (Isa isa : {Isa::scalar, Isa::avx2, Isa::avx512, Isa::amx}) {
    if (isa <= detected_isa()) continue;
    setenv("HIERPOOL_CPU_ISA", std::string(isa_name(isa)).c_str(), 1);
    EXPECT_THROWS(isa_in_force(), std::invalid_argument, "supported: scalar");
  }

  setenv("HIERPOOL_CPU_ISA", "AVX2", 1);
  EXPECT_THROWS(isa_in_force(), std::invalid_argument, "scalar, avx2, avx512, amx, got 'AVX2'");
  unsetenv("HIERPOOL_CPU_ISA");
  EXPECT(isa_in_force() == detected_isa());
}
