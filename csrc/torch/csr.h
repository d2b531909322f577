// Sparse matrices of torch tensors.
#pragma once

#include "hierpool/csr.h"
#include "torch/runtime.h"

namespace hierpool::torch_binding {

// rowptr [rows + 1] and col [E] are int32 or int64, both of them; value [E] has the accumulation type.
inline Csr csr(const Tensor& rowptr, const Tensor& col, const OptionalTensor& value, bool is_double) {
  const ScalarType type = col.scalar_type();
  STD_TORCH_CHECK(type == rowptr.scalar_type() && (type == ScalarType::Int || type == ScalarType::Long),
                  "rowptr and col must both be int32 or int64");
  STD_TORCH_CHECK(!value || (value->scalar_type() == (is_double ? ScalarType::Double : ScalarType::Float) &&
                             value->numel() == col.numel()),
                  "value must have the accumulation type and the size of col");
  return {rowptr.numel() - 1, type == ScalarType::Long, pointer(rowptr), pointer(col),
          value ? pointer(*value) : nullptr};
}

}  // namespace hierpool::torch_binding
