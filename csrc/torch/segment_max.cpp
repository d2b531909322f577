// hierpool_native::segment_max and segment_max_backward. Arguments were checked by hierpool.ops.
#include "hierpool/segment_max.h"

#include <torch/csrc/stable/library.h>

#include "torch/runtime.h"

namespace hierpool::torch_binding {
namespace {

// Rows are those of x[..., n].
Segments segments(const Tensor& x, const OptionalTensor& group, const OptionalTensor& mask, int64_t groups) {
  const int64_t n = x.size(x.dim() - 1), rows = n > 0 ? x.numel() / n : 0;
  STD_TORCH_CHECK(!group || group->numel() * n == rows * n, "sizes disagree");
  return {static_cast<const int64_t*>(pointer(group)),
          static_cast<const uint8_t*>(pointer(mask)),
          rows,
          groups,
          n,
          x.scalar_type() == ScalarType::Double};
}

Tensor segment_max(Tensor x, OptionalTensor group, OptionalTensor mask, int64_t groups) {
  const Segments rows = segments(x, group, mask, groups);
  Tensor y = empty({groups, rows.n}, x.scalar_type());
  cpu::segment_max_fwd(rows, pointer(x), y.data_ptr(), runtime());
  return y;
}

Tensor segment_max_backward(Tensor x, OptionalTensor group, OptionalTensor mask, Tensor y, Tensor dy) {
  const Segments rows = segments(x, group, mask, y.size(0));
  STD_TORCH_CHECK(y.scalar_type() == x.scalar_type() && dy.scalar_type() == x.scalar_type(),
                  "types disagree");
  Tensor dx = torch::stable::empty_like(x);
  cpu::segment_max_bwd(rows, pointer(x), pointer(y), pointer(dy), dx.data_ptr(), runtime());
  return dx;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(hierpool_native, m) {
  m.def("segment_max(Tensor x, Tensor? group, Tensor? mask, int groups) -> Tensor");
  m.def("segment_max_backward(Tensor x, Tensor? group, Tensor? mask, Tensor y, Tensor dy) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(hierpool_native, CPU, m) {
  m.impl("segment_max", TORCH_BOX(&segment_max));
  m.impl("segment_max_backward", TORCH_BOX(&segment_max_backward));
}

}  // namespace hierpool::torch_binding
