// hierpool_native::kron. Arguments were checked by hierpool.
#include "hierpool/kron.h"

#include <torch/csrc/stable/library.h>

#include <tuple>
#include <utility>

#include "torch/csr.h"
#include "torch/runtime.h"

namespace hierpool::torch_binding {
namespace {

struct Outputs {
  Tensor tensors[3];

  static void* allocate(void* context, KronReduction::Output output, int64_t count) {
    Tensor& t = static_cast<Outputs*>(context)->tensors[output];
    t = empty({count}, output == KronReduction::value ? ScalarType::Double : ScalarType::Long);
    return t.data_ptr();
  }
};

// Returns row, col and value, which have no element if there are more than `most` entries, and their number.
std::tuple<Tensor, Tensor, Tensor, int64_t> kron(Tensor rowptr, Tensor col, OptionalTensor value,
                                                 Tensor place, int64_t most) {
  STD_TORCH_CHECK(place.scalar_type() == rowptr.scalar_type() && place.numel() == rowptr.numel() - 1,
                  "place must have the index type and an element for each row of the graph");
  Outputs out{{empty({0}, ScalarType::Long), empty({0}, ScalarType::Long), empty({0}, ScalarType::Double)}};
  const KronReduction reduction{csr(rowptr, col, value, true), pointer(place), most, Outputs::allocate, &out};
  const int64_t count = cpu::kron_reduction(reduction, runtime());
  auto& [row, column, weight] = out.tensors;
  return {std::move(row), std::move(column), std::move(weight), count};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(hierpool_native, m) {
  m.def(
      "kron(Tensor rowptr, Tensor col, Tensor? value, Tensor place, int most) -> (Tensor, Tensor, Tensor, "
      "int)");
}

STABLE_TORCH_LIBRARY_IMPL(hierpool_native, CPU, m) { m.impl("kron", TORCH_BOX(&kron)); }

}  // namespace hierpool::torch_binding
