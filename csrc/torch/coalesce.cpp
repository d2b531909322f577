// hierpool_native::coalesce and coalesce_backward. Arguments were checked by hierpool.ops.
#include "hierpool/coalesce.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "torch/csr.h"
#include "torch/runtime.h"

namespace hierpool::torch_binding {
namespace {

// The arguments that forward and backward share. value: [E] or [E, width]; reduce: a number of hierpool::Reduce.
Coalesce arguments(const Tensor& value, const Tensor& slot, const Tensor& rowptr, const Tensor& first,
                   const Tensor& node, const Tensor& merged_rowptr, const Tensor& merged_col, int64_t reduce,
                   bool loops, bool symmetric) {
  for (const Tensor* t : {&slot, &first, &node, &merged_rowptr}) {
    STD_TORCH_CHECK(t->scalar_type() == rowptr.scalar_type(), "indices must have one type");
  }
  Coalesce c{};
  c.is_double = value.scalar_type() == ScalarType::Double;
  c.width = value.dim() == 2 ? value.size(1) : 1;
  STD_TORCH_CHECK(value.dim() <= 2 && value.size(0) == slot.numel(), "value must have a row for each slot");
  STD_TORCH_CHECK(c.is_double || value.scalar_type() == ScalarType::Float,
                  "value must have the accumulation type");
  c.graph = csr(rowptr, slot, {}, c.is_double);
  c.graph.value = pointer(value);
  c.members = {first.numel() - 1, pointer(first), pointer(node)};
  c.slot = pointer(slot);
  c.merged = csr(merged_rowptr, merged_col, {}, c.is_double);
  c.loops = loops, c.symmetric = symmetric;
  c.reduce = static_cast<Reduce>(reduce);
  return c;
}

// [count] or [count, width]
Tensor like(const Tensor& value, int64_t count, ScalarType type) {
  return value.dim() == 2 ? empty({count, value.size(1)}, type) : empty({count}, type);
}

std::tuple<Tensor, Tensor> coalesce(Tensor value, Tensor slot, Tensor rowptr, Tensor first, Tensor node,
                                    Tensor merged_rowptr, Tensor merged_col, int64_t reduce, bool loops,
                                    bool symmetric) {
  const Coalesce c =
      arguments(value, slot, rowptr, first, node, merged_rowptr, merged_col, reduce, loops, symmetric);
  const int64_t count = merged_col.numel() + (loops ? c.merged.rows : 0);
  Tensor out = like(value, count, value.scalar_type()), source = like(value, count, slot.scalar_type());
  cpu::coalesce_fwd(c, out.data_ptr(), source.data_ptr(), runtime());
  return {out, source};
}

Tensor coalesce_backward(Tensor value, Tensor slot, Tensor rowptr, Tensor first, Tensor node,
                         Tensor merged_rowptr, Tensor merged_col, int64_t reduce, bool loops, bool symmetric,
                         Tensor source, Tensor dout) {
  const Coalesce c =
      arguments(value, slot, rowptr, first, node, merged_rowptr, merged_col, reduce, loops, symmetric);
  STD_TORCH_CHECK(dout.scalar_type() == value.scalar_type(), "the gradient must have the type of the values");
  Tensor dvalue = like(value, value.size(0), value.scalar_type());
  cpu::coalesce_bwd(c, pointer(source), pointer(dout), dvalue.data_ptr(), runtime());
  return dvalue;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(hierpool_native, m) {
  m.def(
      "coalesce(Tensor value, Tensor slot, Tensor rowptr, Tensor first, Tensor node, Tensor merged_rowptr, "
      "Tensor"
      " merged_col, int reduce, bool loops, bool symmetric) -> (Tensor, Tensor)");
  m.def(
      "coalesce_backward(Tensor value, Tensor slot, Tensor rowptr, Tensor first, Tensor node, Tensor "
      "merged_rowptr,"
      " Tensor merged_col, int reduce, bool loops, bool symmetric, Tensor source, Tensor dout) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(hierpool_native, CPU, m) {
  m.impl("coalesce", TORCH_BOX(&coalesce));
  m.impl("coalesce_backward", TORCH_BOX(&coalesce_backward));
}

}  // namespace hierpool::torch_binding
