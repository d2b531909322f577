// hierpool._C: what is not a tensor operator. The operators do not need this module.
#include <pybind11/pybind11.h>

#include <cstdlib>
#include <string>

#include "cpu/isa.h"

namespace py = pybind11;

namespace {

py::dict cpu_features() {
  py::list supported;
  for (hierpool::cpu::Isa isa : hierpool::cpu::supported_isas()) {
    supported.append(py::str(std::string(hierpool::cpu::isa_name(isa))));
  }
  const char* cap = std::getenv("HIERPOOL_CPU_ISA");
  py::dict features;
  features["supported"] = supported;
  features["cap"] = (cap == nullptr || *cap == '\0') ? py::object(py::none()) : py::object(py::str(cap));
  features["isa"] = py::str(std::string(hierpool::cpu::isa_name(hierpool::cpu::isa_in_force())));
  return features;
}

py::dict build_info() {
  py::dict info;
  info["compiler"] = HIERPOOL_BUILD_COMPILER;
  info["flags"] = HIERPOOL_BUILD_FLAGS;
  info["processor"] = HIERPOOL_BUILD_PROCESSOR;
  info["torch"] = HIERPOOL_BUILD_TORCH;
  return info;
}

}  // namespace

PYBIND11_MODULE(_C, module) {
  module.doc() = "What hierpool's native build knows that is not a tensor operator.";
  module.def(
      "cpu_features", &cpu_features,
      "The supported instruction sets (`supported`), the value of HIERPOOL_CPU_ISA or None (`cap`), and the\n"
      "instruction set the kernels use now (`isa`). ValueError if the variable names an unknown or\n"
      "unsupported one.");
  module.def("build_info", &build_info,
             "Compiler, flags, processor and the version of the torch headers that this build used.");
}
