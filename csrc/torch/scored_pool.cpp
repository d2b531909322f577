// hierpool_native::scored_pool_backward. Arguments were checked by hierpool.ops.
#include "hierpool/scored_pool.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "torch/runtime.h"

namespace hierpool::torch_binding {
namespace {

// Tensors are contiguous; all but cluster have one type.
std::tuple<Tensor, Tensor, Tensor> scored_pool_backward(Tensor x, Tensor weight, Tensor score, Tensor cluster,
                                                        OptionalTensor dy, OptionalTensor dscore, bool tanh,
                                                        bool unit, double multiplier) {
  const ScalarType type = x.scalar_type();
  const int64_t rows = x.size(0), n = x.size(1);
  const auto fits = [&](const OptionalTensor& t, int64_t count) {
    return !t || (t->scalar_type() == type && (count < 0 || t->numel() == count));
  };
  STD_TORCH_CHECK((type == ScalarType::Double || type == ScalarType::Float) && fits(weight, n) &&
                      fits(score, rows) && fits(dscore, rows) && fits(dy, -1) && cluster.numel() == rows,
                  "types or sizes disagree");
  Tensor dx = empty({rows, n}, type), dweight = empty({n}, type), dbias = empty({1}, type);
  const ScoredPool pool{rows,
                        n,
                        type == ScalarType::Double,
                        cluster.scalar_type() == ScalarType::Long,
                        pointer(x),
                        pointer(weight),
                        pointer(score),
                        pointer(cluster),
                        pointer(dy),
                        pointer(dscore),
                        tanh,
                        unit,
                        multiplier};
  cpu::scored_pool_bwd(pool, dx.data_ptr(), dweight.data_ptr(), dbias.data_ptr(), runtime());
  return {dx, dweight, dbias};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(hierpool_native, m) {
  m.def(
      "scored_pool_backward(Tensor x, Tensor weight, Tensor score, Tensor cluster, Tensor? dy, Tensor? "
      "dscore,"
      " bool tanh, bool unit, float multiplier) -> (Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(hierpool_native, CPU, m) {
  m.impl("scored_pool_backward", TORCH_BOX(&scored_pool_backward));
}

}  // namespace hierpool::torch_binding
