// hierpool_native::edge_distances and signed_sums, its backward. Arguments were checked by hierpool.ops.
#include "torch/edge_distances.h"

#include <torch/csrc/stable/library.h>

namespace hierpool::torch_binding {
namespace {

// scale [graphs] has the type of x; without ptr all rows are one graph.
Tensor edge_distances(Tensor rowptr, Tensor col, Tensor x, OptionalTensor ptr, OptionalTensor scale) {
  const EdgeArguments args(rowptr, col, {}, ptr, x);
  Tensor out = empty({col.numel()}, x.scalar_type());
  cpu::edge_distances_fwd(args.rows, scale ? pointer(*scale) : nullptr, out.data_ptr(), runtime());
  return out;
}

// The second matrix is absent where only the first one counts.
Tensor signed_sums(Tensor rowptr, Tensor col, OptionalTensor value, OptionalTensor also_rowptr,
                   OptionalTensor also_col, OptionalTensor also_value, Tensor x, OptionalTensor ptr,
                   OptionalTensor scale) {
  const EdgeArguments args(rowptr, col, value, ptr, x);
  const Csr also = also_rowptr ? csr(*also_rowptr, *also_col, also_value, args.rows.is_double) : Csr{};
  STD_TORCH_CHECK(!also_rowptr || also.rows == args.rows.a.rows, "the matrices differ in size");
  Tensor out = empty({x.size(0), x.size(1)}, x.scalar_type());
  cpu::edge_distances_bwd(args.rows, also, scale ? pointer(*scale) : nullptr, out.data_ptr(), runtime());
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(hierpool_native, m) {
  m.def("edge_distances(Tensor rowptr, Tensor col, Tensor x, Tensor? ptr, Tensor? scale) -> Tensor");
  m.def(
      "signed_sums(Tensor rowptr, Tensor col, Tensor? value, Tensor? also_rowptr, Tensor? also_col,"
      " Tensor? also_value, Tensor x, Tensor? ptr, Tensor? scale) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(hierpool_native, CPU, m) {
  m.impl("edge_distances", TORCH_BOX(&edge_distances));
  m.impl("signed_sums", TORCH_BOX(&signed_sums));
}

}  // namespace hierpool::torch_binding
