// hierpool_native::scored_pool and its backward. Arguments were checked by hierpool.ops.
#include "hierpool/scored_pool.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "torch/runtime.h"
#include "torch/scored_pool.h"

namespace hierpool::torch_binding {
namespace {

ScoredPool rows_of(const Tensor& x) {
  const ScalarType type = x.scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Double || type == ScalarType::Float, "rows must be float32 or float64");
  ScoredPool pool{};
  pool.rows = x.size(0), pool.n = x.size(1), pool.is_double = type == ScalarType::Double;
  pool.x = pointer(x);
  return pool;
}

}  // namespace

Tensor scored_pool_project(const Tensor& x, const Tensor& weight, const OptionalTensor& bias, bool unit) {
  ScoredPool pool = rows_of(x);
  const ScalarType type = x.scalar_type();
  STD_TORCH_CHECK(weight.scalar_type() == type && weight.numel() == pool.n &&
                      (!bias || (bias->scalar_type() == type && bias->numel() == 1)),
                  "types or sizes disagree");
  pool.weight = pointer(weight), pool.unit = unit;
  Tensor out = empty({pool.rows}, type);
  cpu::scored_pool_project(pool, bias ? pointer(*bias) : nullptr, out.data_ptr(), runtime());
  return out;
}

Tensor scored_pool(Tensor x, Tensor score, Tensor first, Tensor node, double multiplier) {
  ScoredPool pool = rows_of(x);
  STD_TORCH_CHECK(score.scalar_type() == x.scalar_type() && score.numel() == pool.rows &&
                      first.scalar_type() == node.scalar_type(),
                  "types or sizes disagree");
  pool.score = pointer(score), pool.multiplier = multiplier;
  pool.int64_index = first.scalar_type() == ScalarType::Long;
  const Members members{first.numel() - 1, pointer(first), pointer(node)};
  Tensor y = empty({members.clusters, pool.n}, x.scalar_type());
  cpu::scored_pool_fwd(pool, members, y.data_ptr(), runtime());
  return y;
}

namespace {

// Tensors are contiguous; all but cluster have one type.
std::tuple<Tensor, Tensor, Tensor> scored_pool_backward(Tensor x, Tensor weight, Tensor score, Tensor cluster,
                                                        OptionalTensor dy, OptionalTensor dscore,
                                                        int64_t activation, bool unit, double multiplier) {
  const ScalarType type = x.scalar_type();
  const int64_t rows = x.size(0), n = x.size(1);
  const auto fits = [&](const OptionalTensor& t, int64_t count) {
    return !t || (t->scalar_type() == type && (count < 0 || t->numel() == count));
  };
  STD_TORCH_CHECK((type == ScalarType::Double || type == ScalarType::Float) && fits(weight, n) &&
                      fits(score, rows) && fits(dscore, rows) && fits(dy, -1) && cluster.numel() == rows,
                  "types or sizes disagree");
  Tensor dx = empty({rows, n}, type), dbias = empty({1}, type);
  Tensor dweight = weight.dim() == 2 ? empty({1, n}, type) : empty({n}, type);
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
                        static_cast<Activation>(activation),
                        unit,
                        multiplier};
  cpu::scored_pool_bwd(pool, dx.data_ptr(), dweight.data_ptr(), dbias.data_ptr(), runtime());
  return {dx, dweight, dbias};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(hierpool_native, m) {
  m.def("scored_pool(Tensor x, Tensor score, Tensor first, Tensor node, float multiplier) -> Tensor");
  m.def(
      "scored_pool_backward(Tensor x, Tensor weight, Tensor score, Tensor cluster, Tensor? dy, Tensor? "
      "dscore,"
      " int activation, bool unit, float multiplier) -> (Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(hierpool_native, CPU, m) {
  m.impl("scored_pool", TORCH_BOX(&scored_pool));
  m.impl("scored_pool_backward", TORCH_BOX(&scored_pool_backward));
}

}  // namespace hierpool::torch_binding
