#include <optional>
#include <utility>

#include "cpu/accumulation.h"
#include "cpu/sage_stack_adjacency.h"
#include "cpu/sage_stack_context.h"

namespace hierpool::cpu {
namespace {

template <typename T>
class Backward {
 public:
  Backward(const StackContext<T>& context, const T* dy, int64_t dy_stride, const T* x, int64_t stride,
           const SageSaved& saved, const SageGradients& gradients)
      : c_(context),
        dy_(dy),
        dy_stride_(dy_stride),
        x_(x),
        stride_(stride),
        rows_(static_cast<const T*>(saved.rows)),
        lengths_(static_cast<const T*>(saved.lengths)),
        moments_(static_cast<const T*>(saved.moments)),
        aggregated_(static_cast<const T*>(saved.aggregated)),
        dx_(static_cast<T*>(gradients.x)),
        layers_(gradients.layers),
        next_(c_.rows.count() * c_.widest()),
        before_(c_.rows.count() * c_.widest()),
        share_(c_.graphs.shares() ? c_.rows.count() * c_.widest() : 0),
        tiles_(c_.tiles(2 * (c_.widest() + c_.stack.inputs))) {
    if (gradients.adjacency) adjacency_.emplace(c_.stack, c_.rows, c_.graphs, c_.products, c_.runtime);
  }

  void run(T* dadjacency) {
    const int64_t last = c_.stack.count - 1;
    c_.for_tiles(
        [&](int64_t, int64_t begin, int64_t end, int64_t) { load_upstream(last, next_.data(), begin, end); });
    for (int64_t l = last; l >= 0; --l) {
      differentiate_rows(l);
      differentiate_products(l);
      std::swap(next_, before_);
    }
    if (dx_) {
      const int64_t m = c_.stack.inputs;
      c_.rows.for_padding(
          [&](int64_t first, int64_t end) { std::fill(dx_ + first * m, dx_ + end * m, T(0)); });
    }
    if (adjacency_) adjacency_->write(dadjacency);
  }

 private:
  const T* column(int64_t l, int64_t i) const { return rows_ + i * c_.width() + c_.first(l); }

  // The upstream gradient of a layer, to rows [begin, end) of into[R, outputs].
  void load_upstream(int64_t l, T* into, int64_t begin, int64_t end) const {
    const int64_t n = c_.outputs(l);
    for (int64_t i = begin; i < end; ++i) {
      std::copy_n(dy_ + c_.rows.place(i) * dy_stride_ + c_.first(l), n, into + i * n);
    }
  }

  // ---- norm ------------------------------------------------------------------------------------------------

  // Sums over the tiles of a segment that norm needs: of dy and of dy times the centred rows.
  void add_norm_sums(int64_t l, const T* dy, int64_t segment, int64_t begin, int64_t end) {
    const int64_t n = c_.outputs(l);
    std::vector<T> found(static_cast<size_t>(2 * n));
    c_.kernels.column_gradients(found.data(), found.data() + n, dy + begin * n, n, column(l, begin),
                                c_.width(), moments_ + 2 * l * n, n, end - begin);
    std::vector<double>& sums = norm_sums_[static_cast<size_t>(segment)];
    for (size_t j = 0; j < sums.size(); ++j) sums[j] += static_cast<double>(found[j]);
  }

  // The gradient of relu(u) is scale dy + slope (relu(u) - mean) + shift.
  struct Coefficients {
    std::vector<T> scale, slope, shift;
  };

  Coefficients differentiate_norm(int64_t l) {
    const int64_t n = c_.outputs(l);
    const T* inverse = moments_ + 2 * l * n + n;
    const auto size = static_cast<size_t>(n);
    const auto* gain = static_cast<const T*>(c_.stack.layers[l].gain);
    const auto count = static_cast<double>(c_.rows.count());
    Coefficients found{std::vector<T>(size), std::vector<T>(size, T(0)), std::vector<T>(size, T(0))};
    for (size_t j = 0; j < size; ++j) {
      double sum = 0, along = 0;
      for (const std::vector<double>& segment : norm_sums_) sum += segment[j], along += segment[j + size];
      const double r = inverse[j], scale = gain[j] * r;
      if (layers_) {
        static_cast<T*>(layers_[l].gain)[j] = static_cast<T>(along * r);
        static_cast<T*>(layers_[l].shift)[j] = static_cast<T>(sum);
      }
      found.scale[j] = static_cast<T>(scale);
      if (!c_.stack.training || count == 0) continue;
      found.slope[j] = static_cast<T>(-scale * r * r * along / count);
      found.shift[j] = static_cast<T>(-scale * sum / count);
    }
    return found;
  }

  // ---- one layer -------------------------------------------------------------------------------------------

  // next_ becomes the gradient of h; share_ becomes D^-1 times that.
  void differentiate_rows(int64_t l) {
    const int64_t n = c_.outputs(l), g = c_.width();
    const bool inner = c_.is_inner(l), norm = c_.is_normalised(l);
    const T* shares = c_.graphs.shares();
    Coefficients k;
    if (norm) k = differentiate_norm(l);
    c_.for_tiles([&](int64_t, int64_t begin, int64_t end, int64_t) {
      T* d = next_.data() + begin * n;
      if (norm) {
        c_.kernels.combine_columns(d, n, column(l, begin), g, moments_ + 2 * l * n, k.scale.data(),
                                   k.slope.data(), k.shift.data(), n, end - begin);
      }
      for (int64_t i = begin; i < end && (inner || c_.stack.normalize); ++i) {
        T* row = next_.data() + i * n;
        const T length = c_.stack.normalize ? lengths_[l * c_.rows.count() + i] : T(1);
        const bool project = c_.stack.normalize && length > T(kShortestRow);
        c_.kernels.unit_backward(row, row, column(l, i), n, length, project, inner);
      }
      if (shares) c_.kernels.scale_rows(share_.data() + begin * n, n, shares + begin, d, n, n, end - begin);
    });
  }

  // What the tiles of a layer share.
  struct Step {
    int64_t l, n, m;
    const T *relation, *root;
    bool aggregates_first, need_input;
    const T* share;             // [R, n]: D^-1 times the gradient of h
    Buffer<T> times_weights{};  // [R, m]: share times relation, if A was multiplied first
    Buffer<T> turned{};         // relation^T ..
    Buffer<T> related{};        // .. and X relation^T, [R, n], of which the gradient of A is made
    std::optional<typename StackGraphs<T>::Product> back{};  // with A^T
    typename StackContext<T>::Norm norm{};                   // of the layer before
  };

  // Gradients of the weights of a layer, of its input (to before_ or dx_) and of the adjacency.
  void differentiate_products(int64_t l) {
    const SageLayer& layer = c_.stack.layers[l];
    Step s{.l = l,
           .n = c_.outputs(l),
           .m = c_.inputs(l),
           .relation = static_cast<const T*>(layer.relation),
           .root = static_cast<const T*>(layer.root),
           .aggregates_first = c_.aggregates_first(l),
           .need_input = l > 0 || dx_,
           .share = c_.graphs.shares() ? share_.data() : next_.data()};
    if (adjacency_) {
      s.related = Buffer<T>(c_.rows.count() * s.n);
      s.turned = Buffer<T>(s.n * s.m);
      c_.kernels.transpose(s.turned.data(), s.relation, s.m, s.n, s.m);
    }
    if (!s.aggregates_first) {
      s.back.emplace(c_.graphs, s.share, s.n, s.n, true);
    } else if (s.need_input) {
      s.times_weights = Buffer<T>(c_.rows.count() * s.m);
      c_.for_tiles([&](int64_t, int64_t begin, int64_t end, int64_t) {
        c_.products.product(end - begin, s.m, s.n, s.share + begin * s.n, s.n, s.relation, s.m,
                            s.times_weights.data() + begin * s.m, s.m, false);
      });
      s.back.emplace(c_.graphs, s.times_weights.data(), s.m, s.m, true);
    }
    if (l && c_.is_normalised(l - 1)) s.norm = c_.norm(l - 1, moments_);
    start_sums(l);
    c_.for_tiles([&](int64_t segment, int64_t begin, int64_t end, int64_t thread) {
      const int64_t most = c_.widest() + c_.stack.inputs;
      T* tile = c_.tile(tiles_, 2 * most, thread);
      T* returned = tile + c_.kTileRows * most;  // of A^T times share
      if (!s.aggregates_first) s.back->write(returned, s.n, begin, end);
      add_weights(s, returned, tile, segment, begin, end);
      if (s.need_input) differentiate_input(s, returned, tile, segment, begin, end);
    });
    if (adjacency_) adjacency_->add(s.share, s.related.data(), s.n);
    if (layers_) store_weights(l);
  }

  void add_weights(const Step& s, const T* returned, T* tile, int64_t segment, int64_t begin, int64_t end) {
    const int64_t n = s.n, m = s.m, count = end - begin;
    int64_t ld;
    const T *x = input(s, begin, end, tile, ld), *d = next_.data() + begin * n;
    if (adjacency_)
      c_.products.product(count, n, m, x, ld, s.turned.data(), n, s.related.data() + begin * n, n, false);
    if (layers_ == nullptr) return;
    T* sums = weight_sums_.data() + segment * weights(s.l);
    if (s.root) c_.products.product_of_transposed(n, m, count, d, n, x, ld, sums, m, true);
    if (s.aggregates_first) {
      c_.products.product_of_transposed(n, m, count, d, n, aggregated_ + begin * m, m, sums + n * m, m, true);
    } else {
      c_.products.product_of_transposed(n, m, count, returned, n, x, ld, sums + n * m, m, true);
    }
    if (c_.stack.layers[s.l].bias) c_.kernels.column_sums(sums + 2 * n * m, d, n, count, n);
  }

  void differentiate_input(const Step& s, const T* returned, T* tile, int64_t segment, int64_t begin,
                           int64_t end) {
    const int64_t l = s.l, n = s.n, m = s.m, count = end - begin;
    T* dx = l ? before_.data() + begin * m : c_.rows.are_all() ? dx_ + begin * m : tile;
    if (l) load_upstream(l - 1, before_.data(), begin, end);
    if (s.aggregates_first) {
      s.back->write(dx, m, begin, end);
    } else {
      c_.products.product(count, m, n, returned, n, s.relation, m, dx, m, l > 0);
    }
    if (s.root) c_.products.product(count, m, n, next_.data() + begin * n, n, s.root, m, dx, m, true);
    if (l && c_.is_normalised(l - 1)) add_norm_sums(l - 1, before_.data(), segment, begin, end);
    if (dx != tile) return;
    for (int64_t i = 0; i < count; ++i) std::copy_n(dx + i * m, m, dx_ + c_.rows.place(begin + i) * m);
  }

  // Rows [begin, end) of the input of a layer.
  const T* input(const Step& s, int64_t begin, int64_t end, T* tile, int64_t& ld) const {
    const int64_t l = s.l, m = s.m;
    if (l == 0) return c_.tile_of(x_, stride_, m, begin, end, tile, ld);
    const T* rows = column(l - 1, begin);
    if (c_.is_normalised(l - 1)) {
      c_.kernels.scale_columns(tile, m, rows, c_.width(), s.norm.mean, s.norm.scale.data(), s.norm.shift,
                               true, m, end - begin);
    } else {
      c_.kernels.passed_columns(tile, m, rows, c_.width(), true, m, end - begin);
    }
    ld = m;
    return tile;
  }

  // Elements of the gradients of root, relation and bias, in this order.
  int64_t weights(int64_t l) const { return c_.outputs(l) * (2 * c_.inputs(l) + 1); }

  void start_sums(int64_t l) {
    norm_sums_.assign(static_cast<size_t>(l && c_.is_normalised(l - 1) ? c_.segments() : 0),
                      std::vector<double>(static_cast<size_t>(2 * c_.inputs(l)), 0.0));
    if (!layers_) return;
    const int64_t size = c_.segments() * weights(l);
    if (size > most_) weight_sums_ = Buffer<T>(most_ = size);
    std::fill_n(weight_sums_.data(), size, T(0));
  }

  void store_weights(int64_t l) const {
    const int64_t n = c_.outputs(l), m = c_.inputs(l);
    const SageLayerGradient& into = layers_[l];
    const auto store = [&](void* out, int64_t offset, int64_t count) {
      if (out == nullptr) return;
      auto* sum = static_cast<T*>(out);
      std::fill_n(sum, count, T(0));
      for (int64_t segment = 0; segment < c_.segments(); ++segment) {
        c_.kernels.axpy(sum, T(1), weight_sums_.data() + segment * weights(l) + offset, count);
      }
    };
    store(into.root, 0, n * m);
    store(into.relation, n * m, n * m);
    store(into.bias, 2 * n * m, n);
  }

  const StackContext<T>& c_;
  const T* dy_;
  int64_t dy_stride_;
  const T* x_;
  int64_t stride_;
  const T *rows_, *lengths_, *moments_, *aggregated_;
  T* dx_;
  const SageLayerGradient* layers_;
  Buffer<T> next_,
      before_;  // [R, outputs] of a layer: gradients of its result, and of that of the layer before
  Buffer<T> share_;
  Buffer<T> tiles_;
  Buffer<T> weight_sums_;
  int64_t most_ = 0;
  std::vector<std::vector<double>> norm_sums_;
  std::optional<AdjacencyGradient<T>> adjacency_;
};

}  // namespace

void sage_stack_bwd(const SageStack& stack, const void* dy, int64_t dy_stride, const void* x, int64_t stride,
                    const SageSaved& saved, const SageGradients& gradients, const Runtime& runtime) {
  with_accumulation_type(stack.is_double, [&]<typename T>(T) {
    const StackContext<T> context(stack, runtime);
    Backward<T>(context, static_cast<const T*>(dy), dy_stride, static_cast<const T*>(x), stride, saved,
                gradients)
        .run(static_cast<T*>(gradients.adjacency));
  });
}

}  // namespace hierpool::cpu
