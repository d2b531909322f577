#include <cmath>

#include "cpu/accumulation.h"
#include "cpu/sage_stack_context.h"

namespace hierpool::cpu {
namespace {

template <typename T>
class Forward {
 public:
  Forward(const StackContext<T>& context, const T* x, int64_t stride, const T* running, T* y, T* updated,
          const SageSaved& saved)
      : c_(context),
        x_(x),
        stride_(stride),
        running_(running),
        y_(y),
        updated_(updated),
        rows_(static_cast<T*>(saved.rows)),
        lengths_(static_cast<T*>(saved.lengths)),
        moments_(static_cast<T*>(saved.moments)),
        aggregated_(static_cast<T*>(saved.aggregated)),
        between_(c_.rows.count() * c_.widest()) {
    if (c_.rows.are_all()) return;
    inputs_ = Buffer<T>(c_.rows.count() * c_.stack.inputs);
    const int64_t n = c_.stack.inputs;
    c_.for_tiles([&](int64_t, int64_t begin, int64_t end, int64_t) {
      int64_t ld;
      c_.tile_of(x, stride, n, begin, end, inputs_.data() + begin * n, ld);
    });
    x_ = inputs_.data();
    stride_ = n;
  }

  void run() {
    const int64_t g = c_.width();
    c_.rows.for_padding([&](int64_t first, int64_t last) { std::fill(y_ + first * g, y_ + last * g, T(0)); });
    for (int64_t l = 0; l < c_.stack.count; ++l) {
      c_.aggregates_first(l) ? aggregate_and_multiply() : multiply_and_aggregate(l);
      if (c_.is_normalised(l)) find_moments(l);
    }
  }

 private:
  // The weights of a layer, transposed: [inputs, outputs], or the two side by side.
  Buffer<T> transposed(int64_t l, bool together) const {
    const SageLayer& layer = c_.stack.layers[l];
    const int64_t n = c_.outputs(l), m = c_.inputs(l);
    const auto* relation = static_cast<const T*>(layer.relation);
    const auto* root = static_cast<const T*>(layer.root);
    Buffer<T> found(2 * n * m);
    if (together && root) {
      const Buffer<T> both(2 * n * m);
      std::copy_n(relation, n * m, both.data());
      std::copy_n(root, n * m, both.data() + n * m);
      c_.kernels.transpose(found.data(), both.data(), m, 2 * n, m);
      return found;
    }
    c_.kernels.transpose(found.data(), relation, m, n, m);
    if (root) c_.kernels.transpose(found.data() + n * m, root, m, n, m);
    return found;
  }

  // h = D^-1 A (X relation^T) + X root^T + bias
  void multiply_and_aggregate(int64_t l) {
    const int64_t n = c_.outputs(l), m = c_.inputs(l), w = c_.has_root() ? 2 * n : n;
    const Buffer<T> weights = transposed(l, true), product(c_.rows.count() * w);
    c_.for_tiles([&](int64_t, int64_t begin, int64_t end, int64_t) {
      if (l) finish(l - 1, begin, end);
      const T* from = l ? between_.data() + begin * m : x_ + begin * stride_;
      c_.products.product(end - begin, w, m, from, l ? m : stride_, weights.data(), w,
                          product.data() + begin * w, w, false);
    });
    const typename StackGraphs<T>::Product aggregate(c_.graphs, product.data(), w, n, false);
    const auto* bias = static_cast<const T*>(c_.stack.layers[l].bias);
    start_sums(l);
    c_.for_tiles([&](int64_t segment, int64_t begin, int64_t end, int64_t) {
      T* h = rows_ + begin * c_.width() + c_.first(l);
      const T* shares = c_.graphs.shares();
      aggregate.write(h, c_.width(), begin, end);
      c_.kernels.add_rows(h, c_.width(), shares ? shares + begin : nullptr,
                          c_.has_root() ? product.data() + begin * w + n : nullptr, w, bias, n, end - begin);
      divide(l, segment, begin, end);
    });
  }

  // h = (D^-1 A X) relation^T + X root^T + bias of the first layer
  void aggregate_and_multiply() {
    const int64_t n = c_.outputs(0), m = c_.inputs(0);
    const Buffer<T> weights = transposed(0, false);
    const typename StackGraphs<T>::Product aggregate(c_.graphs, x_, stride_, m, false);
    const auto* bias = static_cast<const T*>(c_.stack.layers[0].bias);
    start_sums(0);
    c_.for_tiles([&](int64_t segment, int64_t begin, int64_t end, int64_t) {
      T *sum = aggregated_ + begin * m, *h = rows_ + begin * c_.width();
      aggregate.write(sum, m, begin, end);
      if (const T* shares = c_.graphs.shares())
        c_.kernels.scale_rows(sum, m, shares + begin, sum, m, m, end - begin);
      c_.products.product(end - begin, n, m, sum, m, weights.data(), n, h, c_.width(), false);
      if (c_.has_root()) {
        c_.products.product(end - begin, n, m, x_ + begin * stride_, stride_, weights.data() + n * m, n, h,
                            c_.width(), true);
      }
      if (bias) c_.kernels.add_rows(h, c_.width(), nullptr, nullptr, 0, bias, n, end - begin);
      divide(0, segment, begin, end);
    });
  }

  // h becomes u; writes u, or in inner layers relu(u), to where it is read next.
  void divide(int64_t l, int64_t segment, int64_t begin, int64_t end) {
    const int64_t n = c_.outputs(l), g = c_.width();
    const bool inner = c_.is_inner(l);
    for (int64_t i = begin; i < end; ++i) {
      T* u = rows_ + i * g + c_.first(l);
      T* out = inner ? between_.data() + i * n : y_ + c_.rows.place(i) * g + c_.first(l);
      if (c_.stack.normalize) {
        lengths_[l * c_.rows.count() + i] = c_.kernels.unit(u, out, n, T(kShortestRow), inner);
      } else {
        c_.kernels.passed_columns(out, n, u, n, inner, n, 1);
      }
    }
    if (c_.is_normalised(l) && c_.stack.training) add_to_sums(l, segment, begin, end);
  }

  // Of every tile: sums, and squares of the distances from its own means.
  struct TileSums {
    int64_t count;
    std::vector<T> sums, squares;
  };

  void start_sums(int64_t l) {
    if (c_.is_normalised(l)) sums_.assign(static_cast<size_t>(c_.segments()), {});
  }

  void add_to_sums(int64_t l, int64_t segment, int64_t begin, int64_t end) {
    const int64_t n = c_.outputs(l);
    const auto size = static_cast<size_t>(n);
    TileSums found{end - begin, std::vector<T>(size, T(0)), std::vector<T>(size)};
    std::vector<T> mean(size);
    const T* rows = between_.data() + begin * n;
    c_.kernels.column_sums(found.sums.data(), rows, n, end - begin, n);
    for (size_t j = 0; j < size; ++j) mean[j] = found.sums[j] / static_cast<T>(end - begin);
    c_.kernels.column_squares(found.squares.data(), rows, n, mean.data(), n, end - begin);
    for (size_t j = 0; j < size; ++j) found.sums[j] = mean[j];
    sums_[static_cast<size_t>(segment)].push_back(std::move(found));
  }

  // Mean and reciprocal deviation of every column, and what follows for the running ones.
  void find_moments(int64_t l) {
    const int64_t n = c_.outputs(l);
    const auto count = static_cast<double>(c_.rows.count());
    T *mean = moments_ + 2 * l * n, *inverse = mean + n;
    for (int64_t j = 0; j < n; ++j) {
      const auto at = static_cast<size_t>(j);
      const T *old_mean = running_ + 2 * l * n + j, *old_variance = old_mean + n;
      double middle = *old_mean, variance = *old_variance;
      if (c_.stack.training) {
        double sum = 0, squares = 0;
        for_sums([&](const TileSums& tile) {
          sum += static_cast<double>(tile.count) * static_cast<double>(tile.sums[at]);
        });
        middle = sum / std::max(count, 1.0);
        for_sums([&](const TileSums& tile) {
          const double apart = static_cast<double>(tile.sums[at]) - middle;
          squares += static_cast<double>(tile.squares[at]) + static_cast<double>(tile.count) * apart * apart;
        });
        variance = squares / std::max(count, 1.0);
        const double weight = count > 0 ? c_.stack.momentum : 0,
                     unbiased = squares / std::max(count - 1, 1.0);
        T* updated = updated_ + 2 * l * n + j;
        updated[0] = static_cast<T>(*old_mean + weight * (middle - *old_mean));
        updated[n] = static_cast<T>(*old_variance + weight * (unbiased - *old_variance));
      }
      mean[j] = static_cast<T>(middle);
      inverse[j] = static_cast<T>(1 / std::sqrt(variance + c_.stack.eps));
    }
    norm_ = c_.norm(l, moments_);
  }

  template <typename Use>
  void for_sums(const Use& use) const {
    for (const auto& tiles : sums_) {
      for (const TileSums& tile : tiles) use(tile);
    }
  }

  // Apply norm to the results of an inner layer, in place, and store them.
  void finish(int64_t l, int64_t begin, int64_t end) {
    const int64_t n = c_.outputs(l), g = c_.width();
    T* rows = between_.data() + begin * n;
    if (c_.is_normalised(l)) {
      c_.kernels.scale_columns(rows, n, rows, n, norm_.mean, norm_.scale.data(), norm_.shift, false, n,
                               end - begin);
    }
    for (int64_t i = begin; i < end; ++i, rows += n) {
      std::copy_n(rows, n, y_ + c_.rows.place(i) * g + c_.first(l));
    }
  }

  const StackContext<T>& c_;
  const T* x_;
  int64_t stride_;
  const T* running_;
  T* y_;
  T* updated_;
  T *rows_, *lengths_, *moments_, *aggregated_;
  Buffer<T> inputs_;   // [R, inputs], if there is padding
  Buffer<T> between_;  // [R, outputs] of an inner layer: relu(u), then y
  std::vector<std::vector<TileSums>> sums_;
  typename StackContext<T>::Norm norm_;
};

}  // namespace

int64_t sage_stack_rows(const SageGraphs& graphs) { return StackRows(graphs).count(); }

void sage_stack_fwd(const SageStack& stack, const void* x, int64_t stride, const void* running, void* y,
                    void* updated, const SageSaved& saved, const Runtime& runtime) {
  with_accumulation_type(stack.is_double, [&]<typename T>(T) {
    const StackContext<T> context(stack, runtime);
    Forward<T>(context, static_cast<const T*>(x), stride, static_cast<const T*>(running), static_cast<T*>(y),
               static_cast<T*>(updated), saved)
        .run();
  });
}

}  // namespace hierpool::cpu
