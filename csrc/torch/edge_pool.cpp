// hierpool_native::edge_linear, edge_factors and edge_pool_backward. Arguments were checked by hierpool.ops.
#include "hierpool/edge_pool.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "torch/csr.h"
#include "torch/edge_pool.h"
#include "torch/runtime.h"

namespace hierpool::torch_binding {
namespace {

// Tensors are contiguous; those of indices have one type, and so have the others.
EdgePool pairs_of(const Tensor& score, const Tensor& rowptr, const Tensor& col, const Tensor& mate) {
  const ScalarType type = score.scalar_type();
  EdgePool pool{};
  pool.graph = csr(rowptr, col, {}, false);
  STD_TORCH_CHECK((type == ScalarType::Double || type == ScalarType::Float) && score.numel() == col.numel() &&
                      mate.numel() == pool.graph.rows && mate.scalar_type() == col.scalar_type(),
                  "types or sizes disagree");
  pool.is_double = type == ScalarType::Double;
  pool.score = pointer(score), pool.mate = pointer(mate);
  return pool;
}

Tensor edge_linear(Tensor x, Tensor weight, Tensor bias, Tensor rowptr, Tensor col) {
  const ScalarType type = x.scalar_type();
  EdgePool pool{};
  pool.graph = csr(rowptr, col, {}, false);
  pool.n = x.size(1), pool.is_double = type == ScalarType::Double;
  STD_TORCH_CHECK((type == ScalarType::Double || type == ScalarType::Float) && weight.scalar_type() == type &&
                      bias.scalar_type() == type && x.size(0) == pool.graph.rows &&
                      weight.numel() == 2 * pool.n && bias.numel() == 1,
                  "types or sizes disagree");
  pool.x = pointer(x), pool.weight = pointer(weight);
  Tensor out = empty({col.numel()}, type);
  cpu::edge_linear(pool, bias.data_ptr(), out.data_ptr(), runtime());
  return out;
}

}  // namespace

Tensor edge_factors(Tensor score, Tensor rowptr, Tensor col, Tensor mate) {
  const EdgePool pool = pairs_of(score, rowptr, col, mate);
  Tensor factor = empty({pool.graph.rows}, score.scalar_type());
  cpu::edge_factors(pool, factor.data_ptr(), runtime());
  return factor;
}

namespace {

std::tuple<Tensor, Tensor, Tensor> edge_pool_backward(Tensor x, Tensor weight, Tensor known, Tensor score,
                                                      Tensor rowptr, Tensor col, Tensor mate, Tensor first,
                                                      Tensor node, OptionalTensor dy, OptionalTensor dscore,
                                                      OptionalTensor dfactor, int64_t activation) {
  const ScalarType type = x.scalar_type(), index = col.scalar_type();
  EdgePool pool = pairs_of(score, rowptr, col, mate);
  pool.n = x.size(1), pool.clusters = first.numel() - 1;
  const int64_t rows = pool.graph.rows, entries = col.numel();
  const auto fits = [&](const OptionalTensor& t, int64_t count) {
    return !t || (t->scalar_type() == type && t->numel() == count);
  };
  STD_TORCH_CHECK(x.size(0) == rows && fits(weight, 2 * pool.n) && fits(known, entries) &&
                      fits(score, entries) && fits(dscore, entries) && fits(dfactor, rows) &&
                      fits(dy, pool.clusters * pool.n) && first.scalar_type() == index &&
                      node.scalar_type() == index && node.numel() == rows,
                  "types or sizes disagree");
  pool.activation = static_cast<Activation>(activation);
  pool.x = pointer(x), pool.weight = pointer(weight), pool.known = pointer(known);
  pool.first = pointer(first), pool.node = pointer(node);
  pool.dy = pointer(dy), pool.dscore = pointer(dscore), pool.dfactor = pointer(dfactor);
  Tensor dx = empty({rows, pool.n}, type), dbias = empty({1}, type);
  Tensor dweight = weight.dim() == 2 ? empty({1, 2 * pool.n}, type) : empty({2 * pool.n}, type);
  cpu::edge_pool_bwd(pool, dx.data_ptr(), dweight.data_ptr(), dbias.data_ptr(), runtime());
  return {dx, dweight, dbias};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(hierpool_native, m) {
  m.def("edge_linear(Tensor x, Tensor weight, Tensor bias, Tensor rowptr, Tensor col) -> Tensor");
  m.def("edge_factors(Tensor score, Tensor rowptr, Tensor col, Tensor mate) -> Tensor");
  m.def(
      "edge_pool_backward(Tensor x, Tensor weight, Tensor known, Tensor score, Tensor rowptr, Tensor col,"
      " Tensor mate, Tensor first, Tensor node, Tensor? dy, Tensor? dscore, Tensor? dfactor, int activation)"
      " -> (Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(hierpool_native, CPU, m) {
  m.impl("edge_linear", TORCH_BOX(&edge_linear));
  m.impl("edge_factors", TORCH_BOX(&edge_factors));
  m.impl("edge_pool_backward", TORCH_BOX(&edge_pool_backward));
}

}  // namespace hierpool::torch_binding
