// What csrc/cpu is handed by torch: its threads and the BLAS in its process; and tensors as pointers.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <initializer_list>
#include <optional>

#include "hierpool/runtime.h"

namespace hierpool::torch_binding {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;

Runtime runtime();

inline DType dtype(const Tensor& t) {
  switch (t.scalar_type()) {
    case ScalarType::Float: return DType::f32;
    case ScalarType::Double: return DType::f64;
    case ScalarType::BFloat16: return DType::bf16;
    case ScalarType::Half: return DType::f16;
    case ScalarType::Char: return DType::i8;
    case ScalarType::Bool:
    case ScalarType::Byte: return DType::u8;
    default: STD_TORCH_CHECK(false, "unsupported dtype"); return DType::f32;
  }
}

// Tensors in a layout that the kernels read, copied only if necessary: contiguous, or made of rows with a contiguous last
// dimension that do not overlap.
inline Tensor in_order(const Tensor& t) { return t.is_contiguous() ? t : torch::stable::contiguous(t); }
inline OptionalTensor in_order(const OptionalTensor& t) { return t ? in_order(*t) : t; }
inline Tensor in_rows(const Tensor& t) {
  if (t.is_contiguous()) return t;
  const int64_t last = t.dim() - 1, width = t.size(last);
  const bool has_rows =
      (width <= 1 || t.stride(last) == 1) && (t.size(last - 1) <= 1 || t.stride(last - 1) >= width);
  return has_rows ? t : torch::stable::contiguous(t);
}

// The data of an output or of a contiguous input.
inline void* pointer(const Tensor& t) {
  STD_TORCH_CHECK(t.is_contiguous(), "expected a contiguous tensor");
  return t.data_ptr();
}

// An uninitialised contiguous tensor in memory.
Tensor empty(std::initializer_list<int64_t> sizes, ScalarType type);

// Null for a tensor that is absent or has no element.
inline void* pointer(const OptionalTensor& t) { return t && t->numel() > 0 ? pointer(*t) : nullptr; }

}  // namespace hierpool::torch_binding
