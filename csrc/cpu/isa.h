// The instruction sets the kernels are built for, and which of them runs.
#pragma once

#include <string_view>
#include <vector>

namespace hierpool::cpu {

// In increasing order of capability: a machine that runs one runs all before it.
// amx: avx512 and products of 16-bit floats on tiles.
enum class Isa { scalar, avx2, avx512, amx };

std::string_view isa_name(Isa isa);

// The best instruction set that this binary holds and this machine runs.
Isa detected_isa();

// Every instruction set that this binary holds and this machine runs, from scalar up.
std::vector<Isa> supported_isas();

// Whether Intel made the processor.
bool is_intel();

// The instruction set the kernels use: the one named by the environment variable HIERPOOL_CPU_ISA, else the
// detected one. The variable is read at every call. Throws std::invalid_argument for a name that is unknown
// or not supported.
Isa isa_in_force();

}  // namespace hierpool::cpu
