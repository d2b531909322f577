// Contract of linear maps of valid rows, one after another, on the CPU. T is double where `is_double`, else float.
#pragma once

#include <cstdint>

#include "hierpool/runtime.h"

namespace hierpool {

// y = x weight^T + bias
struct LinearMap {
  int64_t outputs;
  const void* weight;  // [outputs, outputs of the map before] T
  const void* bias;    // [outputs] T
};

struct LinearMaps {
  int64_t rows, inputs;
  const uint8_t* mask;  // [rows], or null: all are valid
  bool is_double;
  const LinearMap* maps;
  int64_t count;  // at least one

  int64_t outputs() const { return maps[count - 1].outputs; }
};

struct LinearMapGradient {
  void *weight, *bias;
};

namespace cpu {

// y[rows, outputs()] from x[rows, stride]; rows that are not valid become 0. The weights are multiplied with each other
// first. y must not be x.
void linear_maps_fwd(const LinearMaps& shape, const void* x, int64_t stride, void* y, const Runtime& runtime);

// From dy[rows, dy_stride]: dx[rows, inputs] and the gradients of all maps; either may be null. With `accumulate` dx is
// added to; otherwise rows that are not valid become 0. Sums over rows do not depend on the number of threads.
void linear_maps_bwd(const LinearMaps& shape, const void* dy, int64_t dy_stride, const void* x,
                     int64_t stride, void* dx, bool accumulate, const LinearMapGradient* gradients,
                     const Runtime& runtime);

}  // namespace cpu
}  // namespace hierpool
