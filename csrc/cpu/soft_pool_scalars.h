// Upstream gradients of the scalars of a graph, and of the norms and the entropy of the batch.
#pragma once

#include <cmath>
#include <cstdint>

#include "cpu/pool_context.h"

namespace hierpool::cpu {

template <typename T>
class ScalarGradients {
 public:
  explicit ScalarGradients(const SoftPoolBackward& args)
      : args_(args), R_(args.batch.R), counts_(args.batch) {}

  T cut_gradient(int64_t b, int64_t r) const { return gradient(b, 2 + r); }
  T total_gradient(int64_t b, int64_t r) const { return gradient(b, 2 + 2 * R_ + r); }
  T entropy_gradient(int64_t b) const {
    const T own = gradient(b, 1);
    if (args_.dtotal_entropy == nullptr) return own;
    return own + *of(args_.dtotal_entropy) / static_cast<T>(counts_.entropy);
  }
  double adj_sq_gradient(int64_t b, int64_t r) const { return square_gradient(b, 2 + R_ + r); }
  // Of |A - S S^T|^2, through the norm of the graph and that of the batch.
  double link_gradient(int64_t b, int64_t r) const {
    const double norm = of(args_.link_norm)[r] * counts_.link;
    if (std::isnan(norm)) return 0;  // was not computed, or has no gradient to speak of
    const double own = square_gradient(b, 2 + 3 * R_ + r);
    if (args_.dlink_norm == nullptr || !(norm > 0)) return own;
    return own + of(args_.dlink_norm)[r] / (2 * norm * counts_.link);
  }
  // Whether the gradient of S is computed from A - S S^T itself, that of its square given; that of A never has to be.
  bool uses_residual(int64_t b, int64_t r, double link) const {
    const double own = scalar(b, 2 + 3 * R_ + r), whole = scalar(b, 2 + R_ + r);
    return link != 0 && (cancels<T>(own * own, whole * whole) || !in_range<T>(link));
  }

 private:
  static const T* of(const void* base) { return static_cast<const T*>(base); }
  T gradient(int64_t b, int64_t column) const {
    return args_.dscalars ? of(args_.dscalars)[b * (2 + 4 * R_) + column] : T(0);
  }
  T scalar(int64_t b, int64_t column) const {
    return args_.scalars ? of(args_.scalars)[b * (2 + 4 * R_) + column] : T(0);
  }
  // Of the square of the norm in a column of the scalars; that of a norm is 0 where it is 0.
  double square_gradient(int64_t b, int64_t column) const {
    const double norm = scalar(b, column);
    return norm > 0 ? gradient(b, column) / (2 * norm) : 0;
  }

  const SoftPoolBackward& args_;
  const int64_t R_;
  const MeanCounts counts_;
};

}  // namespace hierpool::cpu
