// Halves of connected components by the signs of an eigenvector, which the method of Lanczos finds.
#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/buffer.h"
#include "cpu/component_lists.h"
#include "cpu/hash.h"
#include "cpu/tasks.h"
#include "hierpool/selection.h"

namespace hierpool::cpu {
namespace {

// As in backends/reference/_spectral.py.
constexpr int64_t kSteps = 64;
constexpr double kBreakdown = 1e-9;  // length of a residual that is rounding
constexpr double kCancellation = 1e-2;
constexpr double kZero = 1e-6;   // parts of the largest element that are zero, or equal to it
constexpr double kGain = 1e-12;  // part of a degree that is rounding

// Several sums, as one would be waited for at every step.
double dot(const double* a, const double* b, int64_t n) {
  constexpr int64_t kSums = 8;
  double sum[kSums] = {};
  int64_t i = 0;
  for (; i + kSums <= n; i += kSums) {
    for (int64_t k = 0; k < kSums; ++k) sum[k] += a[i + k] * b[i + k];
  }
  for (; i < n; ++i) sum[0] += a[i] * b[i];
  return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

// A symmetric tridiagonal matrix, whose off-diagonal elements are not 0.
struct Tridiagonal {
  std::vector<double> diagonal, off;

  // Whether all eigenvalues are above x.
  bool is_above(double x) const {
    double pivot = 1;
    for (size_t i = 0; i < diagonal.size(); ++i) {
      pivot = diagonal[i] - x - (i == 0 ? 0 : off[i - 1] * off[i - 1] / pivot);
      if (!(pivot > 0)) return false;
    }
    return true;
  }

  // The eigenvector of the smallest eigenvalue, by a twisted factorisation, whose pivots are positive.
  std::vector<double> smallest_eigenvector() const {
    double low = -4, high = 4;  // the matrix is a part of one with eigenvalues in [-1, 1]
    for (int bit = 0; bit < 60; ++bit) {
      const double middle = (low + high) / 2;
      (is_above(middle) ? low : high) = middle;
    }
    const size_t n = diagonal.size();
    std::vector<double> down(n), up(n), vector(n);
    for (size_t i = 0; i < n; ++i) {
      down[i] = diagonal[i] - low - (i == 0 ? 0 : off[i - 1] * off[i - 1] / down[i - 1]);
    }
    for (size_t i = n; i-- > 0;) {
      up[i] = diagonal[i] - low - (i + 1 == n ? 0 : off[i] * off[i] / up[i + 1]);
    }
    size_t twist = 0;
    const auto gamma = [&](size_t i) { return std::abs(down[i] + up[i] - (diagonal[i] - low)); };
    for (size_t i = 1; i < n; ++i) {
      if (gamma(i) < gamma(twist)) twist = i;
    }
    vector[twist] = 1;
    for (size_t i = twist; i > 0; --i) vector[i - 1] = -off[i - 1] * vector[i] / down[i - 1];
    for (size_t i = twist; i + 1 < n; ++i) vector[i + 1] = -off[i] * vector[i] / up[i + 1];
    return vector;
  }
};

// One component with more than one node, in numbers of its own.
class Component {
 public:
  explicit Component(int64_t n) : n_(n), rowptr_{0}, degree_(static_cast<size_t>(n)) {}

  void add_entry(int64_t column, double weight) {
    col_.push_back(column);
    weight_.push_back(weight);
  }
  void end_row() {
    for (auto e = static_cast<size_t>(rowptr_.back()); e < col_.size(); ++e) {
      degree_[rowptr_.size() - 1] += weight_[e];
    }
    rowptr_.push_back(std::ssize(col_));
  }

  // hash[n]: of each node.
  void halve(const uint64_t* hash, uint8_t* kept) const {
    const std::vector<double> vector = largest_eigenvector(hash);
    double largest = 0;
    for (double v : vector) largest = std::max(largest, std::abs(v));
    size_t first = 0;
    while (std::abs(vector[first]) < (1 - kZero) * largest) ++first;
    const double sign = vector[first] < 0 ? -1 : 1;
    for (size_t i = 0; i < vector.size(); ++i) kept[i] = vector[i] * sign >= -kZero * largest;
    if (!cuts_half(kept)) improve(hash, kept);
  }

 private:
  template <typename F>
  void row(int64_t i, const F& f) const {
    for (int64_t e = rowptr_[static_cast<size_t>(i)]; e < rowptr_[static_cast<size_t>(i) + 1]; ++e) {
      f(col_[static_cast<size_t>(e)], weight_[static_cast<size_t>(e)]);
    }
  }

  // Of the normalised Laplacian: that of the smallest eigenvalue of D^-1/2 A D^-1/2.
  std::vector<double> largest_eigenvector(const uint64_t* hash) const {
    const auto n = static_cast<size_t>(n_);
    const int64_t steps = std::min(kSteps, n_);
    const Buffer<double> basis((steps + 1) * n_);
    std::vector<double> scale(n), scaled(n);
    double* q = basis.data();
    for (size_t i = 0; i < n; ++i) {
      scale[i] = 1 / std::sqrt(degree_[i]);
      q[i] = static_cast<double>(hash[i] >> 11) * 0x1p-53 - 0.5;
    }
    const double length = std::sqrt(dot(q, q, n_));
    for (int64_t i = 0; i < n_; ++i) q[i] /= length;
    Tridiagonal t;
    for (int64_t j = 0;; ++j) {
      double* next = q + n_;
      for (size_t i = 0; i < n; ++i) scaled[i] = scale[i] * q[i];
      for (int64_t i = 0; i < n_; ++i) {
        double sum = 0;
        row(i, [&](int64_t k, double w) { sum += w * scaled[static_cast<size_t>(k)]; });
        next[i] = sum * scale[static_cast<size_t>(i)];
      }
      t.diagonal.push_back(dot(q, next, n_));
      const int64_t last = std::max<int64_t>(j - 1, 0);
      orthogonalise(basis.data() + last * n_, j + 1 - last, next);  // but for rounding, all
      orthogonalise(basis.data(), j + 1, next);
      double residual = std::sqrt(dot(next, next, n_));
      if (residual < kCancellation) {
        orthogonalise(basis.data(), j + 1, next);
        residual = std::sqrt(dot(next, next, n_));
      }
      if (j + 1 == steps || residual <= kBreakdown) break;
      t.off.push_back(residual);
      for (int64_t i = 0; i < n_; ++i) next[i] /= residual;
      q = next;
    }
    const std::vector<double> part = t.smallest_eigenvector();
    std::vector<double> vector(n);
    for (size_t j = 0; j < part.size(); ++j) {
      const double* column = basis.data() + static_cast<int64_t>(j) * n_;
      for (size_t i = 0; i < n; ++i) vector[i] += part[j] * column[i];
    }
    return vector;
  }

  void orthogonalise(const double* basis, int64_t count, double* x) const {
    for (int64_t j = 0; j < count; ++j) {
      const double* const column = basis + j * n_;
      const double part = dot(column, x, n_);
      for (int64_t i = 0; i < n_; ++i) x[i] -= part * column[i];
    }
  }

  bool cuts_half(const uint8_t* kept) const {
    double cut = 0, total = 0;
    for (int64_t i = 0; i < n_; ++i) {
      row(i, [&](int64_t k, double w) {
        total += w;
        if (kept[i] != kept[k]) cut += w;
      });
    }
    return 2 * cut >= total;
  }

  // Nodes change sides while that cuts more: in every round those that come before their neighbours, by hash and number.
  void improve(const uint64_t* hash, uint8_t* kept) const {
    std::vector<uint8_t> movable(static_cast<size_t>(n_));
    std::vector<int64_t> moving;
    for (;;) {
      for (int64_t i = 0; i < n_; ++i) {
        double gain = 0;
        row(i, [&](int64_t k, double w) { gain += kept[i] == kept[k] ? w : -w; });
        movable[static_cast<size_t>(i)] = gain > kGain * degree_[static_cast<size_t>(i)];
      }
      moving.clear();
      for (int64_t i = 0; i < n_; ++i) {
        bool first = movable[static_cast<size_t>(i)] != 0;
        row(i, [&](int64_t k, double) {
          const bool before = hash[k] < hash[i] || (hash[k] == hash[i] && k < i);
          if (movable[static_cast<size_t>(k)] != 0 && before) first = false;
        });
        if (first) moving.push_back(i);
      }
      if (moving.empty()) return;
      for (int64_t i : moving) kept[i] ^= 1;
    }
  }

  int64_t n_;
  std::vector<int64_t> rowptr_, col_;
  std::vector<double> weight_, degree_;
};

template <typename I>
void halve_all(const Csr& a, const Blocks& blocks, uint64_t seed, uint8_t* kept, const Runtime& runtime) {
  const auto* const rowptr = static_cast<const I*>(a.rowptr);
  const auto* const col = static_cast<const I*>(a.col);
  const auto* const value = static_cast<const double*>(a.value);
  const Buffer<uint8_t> usable(rowptr[a.rows]);
  const Buffer<uint64_t> hash(a.rows);
  const uint64_t salt = mix(seed);
  for (int64_t b = 0; b < blocks.graphs; ++b) {
    for (int64_t i = blocks.ptr[b]; i < blocks.ptr[b + 1]; ++i) {
      hash.data()[i] = node_hash(salt, i - blocks.ptr[b]);
      for (I e = rowptr[i]; e < rowptr[i + 1]; ++e) {
        usable.data()[e] = col[e] != i && (value == nullptr || value[e] > 0);
      }
    }
  }
  const ComponentLists lists(a, usable.data(), [](int64_t) { return true; });
  run_tasks(runtime, lists.count(), [&](int64_t c, int64_t) {
    const int64_t n = lists.size(c);
    const int64_t* const nodes = lists.nodes(c);
    if (n == 1) {
      kept[nodes[0]] = 1;
      return;
    }
    Component component(n);
    std::vector<uint64_t> own;
    for (int64_t i = 0; i < n; ++i) {
      own.push_back(hash.data()[nodes[i]]);
      for (I e = rowptr[nodes[i]]; e < rowptr[nodes[i] + 1]; ++e) {
        if (usable.data()[e] == 0) continue;
        component.add_entry(lists.place.data()[col[e]], value == nullptr ? 1.0 : value[e]);
      }
      component.end_row();
    }
    std::vector<uint8_t> side(static_cast<size_t>(n));
    component.halve(own.data(), side.data());
    for (int64_t i = 0; i < n; ++i) kept[nodes[i]] = side[static_cast<size_t>(i)];
  });
}

}  // namespace

void spectral_sign(const Csr& a, const Blocks& blocks, uint64_t seed, uint8_t* kept, const Runtime& runtime) {
  if (a.int64_index) {
    halve_all<int64_t>(a, blocks, seed, kept, runtime);
  } else {
    halve_all<int32_t>(a, blocks, seed, kept, runtime);
  }
}

}  // namespace hierpool::cpu
