// hierpool_native::cut_pool_{dense,csr}_{forward,backward}: soft pooling and the last step of MinCut and DMoN in one
// call. Arguments were checked by hierpool.ops.
#include "hierpool/cut_pool.h"

#include <torch/csrc/stable/library.h>

#include <cstring>
#include <utility>

#include "hierpool/selu.h"
#include "torch/csr.h"
#include "torch/linear_maps.h"
#include "torch/soft_pool.h"

namespace hierpool::torch_binding {
namespace {

// Consecutive arrays of Acc. Each tensor costs torch more than the arithmetic of a small graph.
class Arrays {
 public:
  explicit Arrays(const Tensor& memory)
      : next_(static_cast<char*>(pointer(memory))), bytes_(static_cast<int64_t>(memory.element_size())) {}

  void* take(int64_t count) {
    void* array = next_;
    next_ += count * bytes_;
    return array;
  }

 private:
  char* next_;
  int64_t bytes_;
};

constexpr int64_t kScalars = 6;

CutPool terms_of(const PoolBatch& batch, int64_t kind) {
  STD_TORCH_CHECK(kind >= 0 && kind <= 2, "kind must be 0, 1 or 2");
  return {batch.B, batch.K, batch.is_double, static_cast<CutKind>(kind), batch.num_clusters};
}

// What the backward needs besides S; `vectors`, [B, 2, K], come first. If they are saved, there are A' (a copy, because
// the caller may change the output in place), M, and whether A is symmetric, one element a graph.
struct Sums {
  void *vectors, *adj, *gram, *scalars, *saved, *degree, *total_entropy, *link_norm, *out, *m, *is_symmetric;

  static int64_t count(const PoolBatch& b, bool save) {
    const int64_t graph = 2 * b.K + 2 * b.K * b.K + kScalars + b.K + cpu::kCutSaved;
    return b.B * graph + b.rows() + 2 + (save ? b.B * b.K * b.K + b.rows() * b.K + b.B : 0);
  }
  Sums(const PoolBatch& b, const Tensor& memory, bool save) {
    STD_TORCH_CHECK(memory.numel() == count(b, save), "the sums are those of another batch");
    Arrays arrays(memory);
    vectors = arrays.take(b.B * 2 * b.K);
    adj = arrays.take(b.B * b.K * b.K), gram = arrays.take(b.B * b.K * b.K);
    scalars = arrays.take(b.B * kScalars), saved = arrays.take(b.B * (b.K + cpu::kCutSaved));
    degree = arrays.take(b.rows()), total_entropy = arrays.take(1), link_norm = arrays.take(1);
    out = save ? arrays.take(b.B * b.K * b.K) : nullptr;
    m = save ? arrays.take(b.rows() * b.K) : nullptr;
    is_symmetric = save ? arrays.take(b.B) : nullptr;
  }
};

// SELU is applied to features of these types here.
bool is_double(const Tensor& x) {
  const ScalarType type = x.scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double, "SELU takes float32 and float64");
  return type == ScalarType::Double;
}

// Weights and biases in turn, that make the logits of x; none if there are logits.
using Maps = std::vector<Tensor>;

// The features of a batch as rows of one matrix.
int64_t feature_rows(const PoolBatch& b, const Tensor& x) {
  STD_TORCH_CHECK(b.ptr || b.B <= 1 || b.x_stride_b == b.N * b.x_stride_n,
                  "x must be one matrix of all rows if the logits are made of it");
  return row_stride(x, b.F);
}

// S, X', A', the losses, and sums
using Pooled = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// f.batch and f.symmetric are set.
template <typename Adjacency>
Pooled forward(SoftPoolForward& f, const Adjacency& adjacency, const OptionalTensor& logits, const Tensor& x,
               const OptionalTensor& mask, const Maps& maps, bool save, int64_t kind, bool selu) {
  const PoolBatch& b = f.batch;
  const CutPool shape = terms_of(b, kind);
  const ScalarType acc = accumulation_type(b.is_double);
  Tensor s = empty_assignment(b, logits ? *logits : x), pooled = empty({b.B, b.K, b.F}, x.scalar_type());
  Tensor out = empty({b.B, b.K, b.K}, acc), first = empty({}, acc), ortho = empty({}, acc),
         cluster = empty({}, acc), memory = empty({Sums::count(b, save)}, acc);
  const Sums sums(b, memory, save);
  const Runtime threads = runtime();
  if (logits) {
    set_logits(f, *logits);
  } else {
    const TensorMaps composed(maps, b.F, x.scalar_type());
    cpu::linear_maps_fwd(composed.of_rows(b.rows(), mask), b.x, feature_rows(b, x), s.data_ptr(), threads);
    set_logits(f, s);  // S takes the place of its logits, row by row
  }
  f.s = s.data_ptr(), f.x_pooled = pooled.data_ptr(), f.vectors = sums.vectors;
  f.adj_pooled = sums.adj, f.gram = sums.gram, f.scalars = sums.scalars, f.degree = sums.degree;
  f.total_entropy = sums.total_entropy, f.link_norm = sums.link_norm;
  f.m = sums.m, f.is_symmetric = static_cast<uint8_t*>(sums.is_symmetric);
  cpu::soft_pool_fwd(f, adjacency, threads);
  void* losses[] = {first.data_ptr(), ortho.data_ptr(), cluster.data_ptr()};
  const CutSums cut{sums.adj, sums.gram, f.vectors, sums.scalars};
  cpu::cut_pool_fwd(shape, cut, out.data_ptr(), losses, sums.saved, threads);
  if (save) std::memcpy(sums.out, out.data_ptr(), static_cast<size_t>(out.numel()) * out.element_size());
  if (selu) cpu::selu_fwd(f.x_pooled, pooled.numel(), is_double(pooled), threads);
  return {std::move(s),     std::move(pooled),  std::move(out),   std::move(first),
          std::move(ortho), std::move(cluster), std::move(memory)};
}

double number(const OptionalTensor& t) {
  if (!t) return 0;
  STD_TORCH_CHECK(t->numel() == 1, "the gradient of a loss must be one number");
  if (t->scalar_type() == ScalarType::Double) return *static_cast<const double*>(t->data_ptr());
  STD_TORCH_CHECK(t->scalar_type() == ScalarType::Float, "gradients must be float32 or float64");
  return *static_cast<const float*>(t->data_ptr());
}

// Gradients of what the forward returns; the adjacency's and that of the sizes are of Acc.
struct CutUpstream {
  OptionalTensor ds, dx, dout, dfirst, dortho, dcluster, dsize;

  bool of_terms() const { return dout || dfirst || dortho || dcluster; }
};

// What the forward returned.
struct CutOutputs {
  Tensor s;
  OptionalTensor x_pooled;  // absent: without SELU
  Tensor memory;
};

template <typename T>
void add_sizes(T* dvectors, const void* dsize, const PoolBatch& b) {
  for (int64_t i = 0; i < b.B; ++i) {
    for (int64_t k = 0; k < b.K; ++k) dvectors[2 * i * b.K + k] += static_cast<const T*>(dsize)[i * b.K + k];
  }
}

// Memory of the gradients of the sums, which must outlive the call of the kernel.
Tensor set_gradients_of_sums(SoftPoolBackward& f, const CutUpstream& up, const CutOutputs& from,
                             const Sums& sums, int64_t kind, const Runtime& threads) {
  const PoolBatch& b = f.batch;
  const CutPool shape = terms_of(b, kind);
  const int64_t square = b.B * b.K * b.K, vectors = 2 * b.B * b.K;
  Tensor memory = empty({2 * square + vectors + b.B * kScalars}, accumulation_type(b.is_double));
  Arrays arrays(memory);
  void *dadj = arrays.take(square), *dgram = arrays.take(square);
  void *dvectors = arrays.take(vectors), *dscalars = arrays.take(b.B * kScalars);
  const bool mincut = shape.kind == CutKind::mincut;
  if (up.of_terms()) {
    STD_TORCH_CHECK(!up.dout || (up.dout->numel() == square && dtype(*up.dout) == dtype(from.memory)),
                    "the gradient of the adjacency must be of its shape and dtype");
    const CutSums cut{sums.adj, sums.gram, sums.vectors, sums.scalars};
    const double dlosses[] = {number(up.dfirst), number(up.dortho), number(up.dcluster)};
    cpu::cut_pool_bwd(shape, cut, sums.out, sums.saved, pointer(up.dout), dlosses, dadj,
                      up.dortho ? dgram : nullptr, mincut ? nullptr : dvectors, dscalars, threads);
    f.dadj = dadj, f.dscalars = dscalars;
    if (up.dortho) f.dgram = dgram;
    if (!mincut) f.dvectors = dvectors;
  }
  if (!up.dsize) return memory;
  STD_TORCH_CHECK(2 * up.dsize->numel() == vectors && dtype(*up.dsize) == dtype(from.memory),
                  "sizes disagree");
  if (!f.dvectors) std::memset(dvectors, 0, static_cast<size_t>(vectors) * memory.element_size());
  f.dvectors = dvectors;
  b.is_double ? add_sizes(static_cast<double*>(dvectors), pointer(*up.dsize), b)
              : add_sizes(static_cast<float*>(dvectors), pointer(*up.dsize), b);
  return memory;
}

// f.batch and the outputs are set. Returns the gradients of the maps, if they are needed.
template <typename Adjacency>
Maps backward(SoftPoolBackward& f, const Adjacency& adjacency, const CutUpstream& up, const CutOutputs& from,
              const Tensor& x, const OptionalTensor& mask, const Maps& maps, int64_t kind, bool need_maps) {
  const PoolBatch& b = f.batch;
  const Runtime threads = runtime();
  const Sums sums(b, from.memory, true);
  f.s = pointer(from.s), f.gram = sums.gram, f.link_norm = sums.link_norm, f.degree = sums.degree;
  f.m = sums.m, f.is_symmetric = static_cast<const uint8_t*>(sums.is_symmetric);
  const Tensor memory = set_gradients_of_sums(f, up, from, sums, kind, threads);
  f.ds = pointer(up.ds), f.dx = pointer(up.dx);
  OptionalTensor before;  // the gradient of X' before SELU
  if (up.dx && from.x_pooled) {
    before = empty({b.B, b.K, b.F}, from.x_pooled->scalar_type());
    STD_TORCH_CHECK(up.dx->numel() == before->numel() && dtype(*up.dx) == dtype(*before), "sizes disagree");
    cpu::selu_bwd(before->data_ptr(), f.dx, pointer(*from.x_pooled), before->numel(), is_double(*before),
                  threads);
    f.dx = before->data_ptr();
  }
  cpu::soft_pool_bwd(f, adjacency, threads);
  if (maps.empty()) return {};
  STD_TORCH_CHECK(f.dlogits != nullptr, "the maps need the gradient of the logits");
  const TensorMaps composed(maps, b.F, x.scalar_type());
  Maps grads;
  std::vector<LinearMapGradient> places;
  if (need_maps) std::tie(grads, places) = composed.gradients();
  cpu::linear_maps_bwd(composed.of_rows(b.rows(), mask), f.dlogits, b.K, b.x, feature_rows(b, x), f.dfeatures,
                       true, need_maps ? places.data() : nullptr, threads);
  return grads;
}

using Gradients = std::tuple<Tensor, Tensor, Tensor, Maps>;  // of logits, x, A, and the maps

// ----------------------------------------------------------------------------------------------------------- dense

// The clusters; `has_logits`: they are not made of x.
void set_columns(PoolBatch& b, bool has_logits, const Maps& maps, const OptionalTensor& num_clusters) {
  STD_TORCH_CHECK(has_logits || !maps.empty(), "there are neither logits nor maps that make them");
  if (!has_logits) b.K = maps.back().numel();
  set_clusters(b, num_clusters);
}

// symmetric: 1, 0, or -1 for unknown
Pooled dense_forward(OptionalTensor logits, Tensor x, Tensor adj, OptionalTensor mask,
                     OptionalTensor num_clusters, double temperature, int64_t symmetric, bool save,
                     int64_t kind, bool selu, Maps maps) {
  SoftPoolForward f{};
  f.batch = dense_batch(logits ? *logits : x, x, adj, mask, {}, temperature, false, false);
  set_columns(f.batch, logits.has_value(), maps, num_clusters);
  STD_TORCH_CHECK(f.batch.R == 1, "adj must have shape [B, N, N]");
  f.symmetric = static_cast<int>(symmetric);
  return forward(f, dense_adjacency(adj), logits, x, mask, maps, save, kind, selu);
}

Gradients dense_backward(OptionalTensor ds, OptionalTensor dx, OptionalTensor dout, OptionalTensor dfirst,
                         OptionalTensor dortho, OptionalTensor dcluster, OptionalTensor dsize, Tensor s,
                         OptionalTensor x_pooled, Tensor sums, Tensor x, Tensor adj, OptionalTensor mask,
                         OptionalTensor num_clusters, double temperature, int64_t kind, Maps maps,
                         bool need_logits, bool need_x, bool need_adj, bool need_maps) {
  SoftPoolBackward f{};
  f.batch = dense_batch(s, x, adj, mask, {}, temperature, false, false);
  set_clusters(f.batch, num_clusters);
  auto [dlogits, dlogits_data] = gradient_of(s, need_logits);
  auto [dfeatures, dfeatures_data] = gradient_of(x, need_x);
  auto [dadjacency, dadjacency_data] = gradient_of(adj, need_adj);
  f.dlogits = dlogits_data, f.dfeatures = dfeatures_data, f.dadjacency = dadjacency_data;
  Maps dmaps = backward(f, dense_adjacency(adj), {ds, dx, dout, dfirst, dortho, dcluster, dsize},
                        {s, x_pooled, sums}, x, mask, maps, kind, need_maps);
  return {std::move(dlogits), std::move(dfeatures), std::move(dadjacency), std::move(dmaps)};
}

// ---------------------------------------------------------------------------------------------------------- sparse

Pooled csr_forward(OptionalTensor logits, Tensor x, OptionalTensor value, Tensor rowptr, Tensor col,
                   Tensor ptr, OptionalTensor num_clusters, double temperature, bool symmetric, bool save,
                   int64_t kind, bool selu, Maps maps) {
  SoftPoolForward f{};
  f.batch = csr_batch(logits ? *logits : x, x, value, ptr, temperature, false, false);
  set_columns(f.batch, logits.has_value(), maps, num_clusters);
  f.symmetric = symmetric;
  const CsrAdjacency adjacency{csr(rowptr, col, value, f.batch.is_double), {}};
  return forward(f, adjacency, logits, x, {}, maps, save, kind, selu);
}

// The transpose is absent where A is symmetric. Gradients to the entries of A are of Acc.
Gradients csr_backward(OptionalTensor ds, OptionalTensor dx, OptionalTensor dout, OptionalTensor dfirst,
                       OptionalTensor dortho, OptionalTensor dcluster, OptionalTensor dsize, Tensor s,
                       OptionalTensor x_pooled, Tensor sums, Tensor x, OptionalTensor value, Tensor rowptr,
                       Tensor col, Tensor ptr, OptionalTensor num_clusters, OptionalTensor rowptr_t,
                       OptionalTensor col_t, OptionalTensor value_t, double temperature, int64_t kind,
                       Maps maps, bool need_logits, bool need_x, bool need_value, bool need_maps) {
  SoftPoolBackward f{};
  f.batch = csr_batch(s, x, value, ptr, temperature, false, false);
  set_clusters(f.batch, num_clusters);
  CsrAdjacency adjacency{csr(rowptr, col, value, f.batch.is_double), {}};
  if (rowptr_t) adjacency.transposed = csr(*rowptr_t, *col_t, value_t, f.batch.is_double);
  auto [dlogits, dlogits_data] = gradient_of(s, need_logits);
  auto [dfeatures, dfeatures_data] = gradient_of(x, need_x);
  Tensor dvalue = empty({need_value ? col.numel() : 0}, accumulation_type(f.batch.is_double));
  f.dlogits = dlogits_data, f.dfeatures = dfeatures_data;
  f.dadjacency = need_value ? dvalue.data_ptr() : nullptr;
  Maps dmaps = backward(f, adjacency, {ds, dx, dout, dfirst, dortho, dcluster, dsize}, {s, x_pooled, sums}, x,
                        {}, maps, kind, need_maps);
  return {std::move(dlogits), std::move(dfeatures), std::move(dvalue), std::move(dmaps)};
}

}  // namespace

#define HIERPOOL_UPSTREAM                                                                    \
  "(Tensor? ds, Tensor? dx, Tensor? dout, Tensor? dfirst, Tensor? dortho, Tensor? dcluster," \
  " Tensor? dsize, Tensor s, Tensor? x_pooled, Tensor sums,"

STABLE_TORCH_LIBRARY_FRAGMENT(hierpool_native, m) {
  m.def(
      "cut_pool_dense_forward(Tensor? logits, Tensor x, Tensor adj, Tensor? mask, Tensor? num_clusters,"
      " float temperature,"
      " int symmetric, bool save, int kind, bool selu, Tensor[] maps) -> (Tensor, Tensor, Tensor, Tensor,"
      " Tensor, Tensor, Tensor)");
  m.def(
      "cut_pool_dense_backward" HIERPOOL_UPSTREAM
      " Tensor x, Tensor adj, Tensor? mask, Tensor? num_clusters, float temperature, int kind, Tensor[] maps,"
      " bool need_logits, bool need_x, bool need_adj, bool need_maps) -> (Tensor, Tensor, Tensor, Tensor[])");
  m.def(
      "cut_pool_csr_forward(Tensor? logits, Tensor x, Tensor? value, Tensor rowptr, Tensor col, Tensor ptr,"
      " Tensor? num_clusters, float temperature, bool symmetric, bool save, int kind, bool selu, Tensor[] "
      "maps) -> (Tensor,"
      " Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def("cut_pool_csr_backward" HIERPOOL_UPSTREAM
        " Tensor x, Tensor? value, Tensor rowptr, Tensor col, Tensor ptr, Tensor? num_clusters, Tensor? "
        "rowptr_t, Tensor? col_t,"
        " Tensor? value_t, float temperature, int kind, Tensor[] maps, bool need_logits, bool need_x,"
        " bool need_value, bool need_maps) -> (Tensor, Tensor, Tensor, Tensor[])");
}

#undef HIERPOOL_UPSTREAM

STABLE_TORCH_LIBRARY_IMPL(hierpool_native, CPU, m) {
  m.impl("cut_pool_dense_forward", TORCH_BOX(&dense_forward));
  m.impl("cut_pool_dense_backward", TORCH_BOX(&dense_backward));
  m.impl("cut_pool_csr_forward", TORCH_BOX(&csr_forward));
  m.impl("cut_pool_csr_backward", TORCH_BOX(&csr_backward));
}

}  // namespace hierpool::torch_binding
