// What the library knows that is not a tensor operator: C functions that return JSON, since a wheel for every Python
// holds no Python module.
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "cpu/isa.h"

namespace {

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) >= ' ') out += c;
  }
  return out + '"';
}

std::string cpu_features() {
  std::string supported;
  for (hierpool::cpu::Isa isa : hierpool::cpu::supported_isas()) {
    supported += (supported.empty() ? "" : ", ") + quoted(std::string(hierpool::cpu::isa_name(isa)));
  }
  const char* cap = std::getenv("HIERPOOL_CPU_ISA");
  const std::string named = (cap == nullptr || *cap == '\0') ? "null" : quoted(cap);
  const std::string isa(hierpool::cpu::isa_name(hierpool::cpu::isa_in_force()));
  return "{\"supported\": [" + supported + "], \"cap\": " + named + ", \"isa\": " + quoted(isa) + "}";
}

}  // namespace

extern "C" {

// The supported instruction sets (`supported`), the value of HIERPOOL_CPU_ISA or null (`cap`), and the instruction set
// the kernels use now (`isa`); `error` alone if the variable names an unknown or unsupported one. The text is valid
// until the next call on this thread.
__attribute__((visibility("default"))) const char* hierpool_cpu_features() {
  thread_local std::string text;
  try {
    text = cpu_features();
  } catch (const std::invalid_argument& error) {
    text = "{\"error\": " + quoted(error.what()) + "}";
  }
  return text.c_str();
}

// Compiler, flags, processor and the version of the torch headers of this build.
__attribute__((visibility("default"))) const char* hierpool_build_info() {
  static const std::string text = "{\"compiler\": " + quoted(HIERPOOL_BUILD_COMPILER) +
                                  ", \"flags\": " + quoted(HIERPOOL_BUILD_FLAGS) +
                                  ", \"processor\": " + quoted(HIERPOOL_BUILD_PROCESSOR) +
                                  ", \"torch\": " + quoted(HIERPOOL_BUILD_TORCH) + "}";
  return text.c_str();
}

}  // extern "C"
