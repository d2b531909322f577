// hierpool_native::cut_terms and cut_terms_backward, the last step of MinCut and DMoN pooling.
#include "hierpool/cut_terms.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "torch/runtime.h"

namespace hierpool::torch_binding {
namespace {

using torch::headeronly::ScalarType;
using OptionalTensor = std::optional<Tensor>;

CutTerms shape_of(const Tensor& adj, int64_t kind) {
  STD_TORCH_CHECK(adj.dim() == 3 && adj.size(1) == adj.size(2), "adj must have shape [B, K, K]");
  STD_TORCH_CHECK(kind >= 0 && kind <= 2, "kind must be 0, 1 or 2");
  return {adj.size(0), adj.size(1), adj.scalar_type() == ScalarType::Double, static_cast<CutKind>(kind)};
}

// The data of a contiguous tensor of a number of elements.
void* checked(const Tensor& t, const CutTerms& shape, int64_t count) {
  STD_TORCH_CHECK(t.numel() == count, "sizes disagree");
  STD_TORCH_CHECK(t.scalar_type() == (shape.wide ? ScalarType::Double : ScalarType::Float),
                  "tensors must have one dtype, float32 or float64");
  return pointer(t);
}

CutSums sums_of(const CutTerms& shape, const Tensor& adj, const Tensor& gram, const OptionalTensor& vectors,
                const Tensor& scalars) {
  const int64_t square = shape.graphs * shape.k * shape.k;
  STD_TORCH_CHECK(vectors.has_value() || shape.kind == CutKind::mincut, "vectors are missing");
  return {checked(adj, shape, square), checked(gram, shape, square),
          vectors ? checked(*vectors, shape, 2 * shape.graphs * shape.k) : nullptr,
          checked(scalars, shape, 6 * shape.graphs)};
}

// -> out, the three losses, saved
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> cut_terms(Tensor adj, Tensor gram, OptionalTensor vectors,
                                                             Tensor scalars, int64_t kind) {
  const CutTerms shape = shape_of(adj, kind);
  const ScalarType type = adj.scalar_type();
  const CutSums sums = sums_of(shape, adj, gram, vectors, scalars);
  Tensor out = empty({shape.graphs, shape.k, shape.k}, type);
  Tensor first = empty({}, type), ortho = empty({}, type), cluster = empty({}, type);
  Tensor saved = empty({shape.graphs, shape.k + cpu::kCutSaved}, type);
  void* losses[] = {first.data_ptr(), ortho.data_ptr(), cluster.data_ptr()};
  cpu::cut_terms(shape, sums, out.data_ptr(), losses, saved.data_ptr(), runtime());
  return {out, first, ortho, cluster, saved};
}

double number(const OptionalTensor& t) {
  if (!t) return 0;
  STD_TORCH_CHECK(t->numel() == 1, "the gradient of a loss must be one number");
  if (t->scalar_type() == ScalarType::Double) return *static_cast<const double*>(t->data_ptr());
  STD_TORCH_CHECK(t->scalar_type() == ScalarType::Float, "gradients must be float32 or float64");
  return *static_cast<const float*>(t->data_ptr());
}

// -> dadj, dgram, dvectors (empty for mincut), dscalars
std::tuple<Tensor, Tensor, Tensor, Tensor> cut_terms_backward(OptionalTensor dout, OptionalTensor dfirst,
                                                              OptionalTensor dortho, OptionalTensor dcluster,
                                                              Tensor adj, Tensor gram, OptionalTensor vectors,
                                                              Tensor scalars, Tensor out, Tensor saved,
                                                              int64_t kind) {
  const CutTerms shape = shape_of(adj, kind);
  const ScalarType type = adj.scalar_type();
  const int64_t square = shape.graphs * shape.k * shape.k;
  const CutSums sums = sums_of(shape, adj, gram, vectors, scalars);
  const double dlosses[] = {number(dfirst), number(dortho), number(dcluster)};
  const bool mincut = shape.kind == CutKind::mincut;
  Tensor dadj = empty({shape.graphs, shape.k, shape.k}, type);
  Tensor dgram = empty({shape.graphs, shape.k, shape.k}, type);
  Tensor dvectors = empty({mincut ? 0 : shape.graphs, 2, shape.k}, type);
  Tensor dscalars = empty({shape.graphs, 6}, type);
  cpu::cut_terms_backward(shape, sums, checked(out, shape, square),
                          checked(saved, shape, shape.graphs * (shape.k + cpu::kCutSaved)),
                          dout ? checked(*dout, shape, square) : nullptr, dlosses, dadj.data_ptr(),
                          dgram.data_ptr(), mincut ? nullptr : dvectors.data_ptr(), dscalars.data_ptr(),
                          runtime());
  return {dadj, dgram, dvectors, dscalars};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(hierpool_native, m) {
  m.def(
      "cut_terms(Tensor adj, Tensor gram, Tensor? vectors, Tensor scalars, int kind)"
      " -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "cut_terms_backward(Tensor? dout, Tensor? dfirst, Tensor? dortho, Tensor? dcluster, Tensor adj, Tensor "
      "gram,"
      " Tensor? vectors, Tensor scalars, Tensor out, Tensor saved, int kind) -> (Tensor, Tensor, Tensor, "
      "Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(hierpool_native, CPU, m) {
  m.impl("cut_terms", TORCH_BOX(&cut_terms));
  m.impl("cut_terms_backward", TORCH_BOX(&cut_terms_backward));
}

}  // namespace hierpool::torch_binding
