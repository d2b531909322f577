// What scores are made of by linear maps.
#pragma once

#include <cstdint>

namespace hierpool {

enum class Activation : int64_t { softmax, tanh, sigmoid };

// The derivative of an activation where its value is s; of softmax without that of its sum.
template <typename T>
T slope_at(Activation activation, T s) {
  if (activation == Activation::softmax) return s;
  return activation == Activation::tanh ? 1 - s * s : s * (1 - s);
}

}  // namespace hierpool
