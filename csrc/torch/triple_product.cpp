// hierpool_native::triple_product, its backward, and the places of its entries. Arguments were checked by hierpool.
#include "hierpool/triple_product.h"

#include <torch/csrc/stable/library.h>

#include <tuple>
#include <utility>

#include "torch/csr.h"
#include "torch/runtime.h"

namespace hierpool::torch_binding {
namespace {

// Sparse matrices that all have one type of indices.
struct Structure {
  const Tensor &rowptr, &col, &s_rowptr, &cluster, &first, &node;

  TripleProduct product(const OptionalTensor& value, const OptionalTensor& weight, int64_t loops) const {
    for (const Tensor* t : {&s_rowptr, &cluster, &first, &node}) {
      STD_TORCH_CHECK(t->scalar_type() == rowptr.scalar_type(), "indices must have one type");
    }
    TripleProduct p{};
    p.is_double = weight && weight->scalar_type() == ScalarType::Double;
    p.a = csr(rowptr, col, value, p.is_double);
    p.s = csr(s_rowptr, cluster, weight, p.is_double);
    p.members = {first.numel() - 1, pointer(first), pointer(node)};
    p.loops = static_cast<Loops>(loops);
    return p;
  }
};

void* make_columns(void* context, int64_t count) {
  auto& col = *static_cast<Tensor*>(context);
  col = empty({count}, col.scalar_type());
  return col.data_ptr();
}

// Returns rowptr, int64, and col, without elements if there are more than `most`.
std::tuple<Tensor, Tensor> triple_product_places(Tensor rowptr, Tensor col, Tensor s_rowptr, Tensor cluster,
                                                 Tensor first, Tensor node, int64_t loops, int64_t most) {
  const TripleProduct p = Structure{rowptr, col, s_rowptr, cluster, first, node}.product({}, {}, loops);
  Tensor out = empty({p.members.clusters + 1}, ScalarType::Long), columns = empty({0}, rowptr.scalar_type());
  cpu::triple_product_places(p, most, static_cast<int64_t*>(out.data_ptr()), make_columns, &columns,
                             runtime());
  return {std::move(out), std::move(columns)};
}

Tensor triple_product(Tensor weight, OptionalTensor value, Tensor rowptr, Tensor col, Tensor s_rowptr,
                      Tensor cluster, Tensor first, Tensor node, Tensor entry, Tensor product_rowptr,
                      Tensor product_col, int64_t loops, bool symmetric) {
  TripleProduct p = Structure{rowptr, col, s_rowptr, cluster, first, node}.product(value, weight, loops);
  p.entry = pointer(entry), p.symmetric = symmetric;
  const Csr product = csr(product_rowptr, product_col, {}, p.is_double);
  const int64_t apart = p.loops == Loops::apart ? p.members.clusters : 0;
  Tensor out = empty({product_col.numel() + apart}, weight.scalar_type());
  cpu::triple_product_fwd(p, product, out.data_ptr(), runtime());
  return out;
}

// Returns the gradients of the weights and of the values, without elements if they are not wanted. The transpose of A
// is read if it is not symmetric.
std::tuple<Tensor, Tensor> triple_product_backward(Tensor weight, OptionalTensor value, Tensor rowptr,
                                                   Tensor col, OptionalTensor value_t,
                                                   OptionalTensor rowptr_t, OptionalTensor col_t,
                                                   Tensor s_rowptr, Tensor cluster, Tensor first, Tensor node,
                                                   Tensor entry, Tensor product_rowptr, Tensor product_col,
                                                   int64_t loops, bool symmetric, Tensor dout,
                                                   bool want_weight, bool want_value) {
  TripleProduct p = Structure{rowptr, col, s_rowptr, cluster, first, node}.product(value, weight, loops);
  p.entry = pointer(entry), p.symmetric = symmetric;
  STD_TORCH_CHECK(dout.scalar_type() == weight.scalar_type(),
                  "the gradient must have the type of the weights");
  const Csr product = csr(product_rowptr, product_col, {}, p.is_double);
  const bool turned = want_weight && !symmetric;
  STD_TORCH_CHECK(!turned || (rowptr_t && col_t), "the transpose must be given");
  const Csr a_t = turned ? csr(*rowptr_t, *col_t, value_t, p.is_double) : Csr{};
  const ScalarType type = weight.scalar_type();
  Tensor dweight = empty({want_weight ? weight.numel() : 0}, type);
  Tensor dvalue = empty({want_value ? col.numel() : 0}, type);
  cpu::triple_product_bwd(p, a_t, product, pointer(dout), want_weight ? dweight.data_ptr() : nullptr,
                          want_value ? dvalue.data_ptr() : nullptr, runtime());
  return {std::move(dweight), std::move(dvalue)};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(hierpool_native, m) {
  m.def(
      "triple_product_places(Tensor rowptr, Tensor col, Tensor s_rowptr, Tensor cluster, Tensor first, "
      "Tensor node, int loops, int most) -> (Tensor, Tensor)");
  m.def(
      "triple_product(Tensor weight, Tensor? value, Tensor rowptr, Tensor col, Tensor s_rowptr, Tensor "
      "cluster, Tensor first, Tensor node, Tensor entry, Tensor product_rowptr, Tensor product_col, int "
      "loops, bool symmetric) -> Tensor");
  m.def(
      "triple_product_backward(Tensor weight, Tensor? value, Tensor rowptr, Tensor col, Tensor? value_t, "
      "Tensor? rowptr_t, Tensor? col_t, Tensor s_rowptr, Tensor cluster, Tensor first, Tensor node, Tensor "
      "entry, Tensor product_rowptr, Tensor product_col, int loops, bool symmetric, Tensor dout, bool "
      "want_weight, bool want_value) -> (Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(hierpool_native, CPU, m) {
  m.impl("triple_product_places", TORCH_BOX(&triple_product_places));
  m.impl("triple_product", TORCH_BOX(&triple_product));
  m.impl("triple_product_backward", TORCH_BOX(&triple_product_backward));
}

}  // namespace hierpool::torch_binding
