// Softmax and entropy of rows, and their derivatives.

template <typename T>
struct SoftmaxRows {
  using V = Vec<T>;
  static constexpr int64_t L = V::kLanes;
  static constexpr int kNarrow = 4;  // vectors of rows that go together

  // z = (logits - max) / T, finite where exp is 0.
  static V centred(V logits, V top, V scale) { return V::max(V::set(T(-1000)), (logits - top) * scale); }

  // `count` rows, at most as many as there are lanes, of W vectors, the last of which has `last` elements. Returns the
  // sum of their entropies. Step by step for all rows: the steps of one row wait for each other.
  template <int W>
  static T narrow_rows(T* dst, int64_t ld_dst, const T* src, int64_t ld_src, int64_t last, int64_t count,
                       T inverse_temperature) {
    const V lowest = V::set(-__builtin_huge_val()), scale = V::set(inverse_temperature);
    const auto load = [&](int64_t r, int w) {
      const T* from = src + r * ld_src + w * L;
      return w < W - 1 ? V::load(from) : V::select(last, V::load(from, last), lowest);
    };
    T top[L], inverse[L];
    V e[L][W], total[L], weighted[L];
    for (int64_t r = 0; r < L; ++r) total[r] = weighted[r] = V::zero();
    for (int64_t r = 0; r < count; ++r) {
      V high = load(r, 0);
      HIERPOOL_UNROLL for (int w = 1; w < W; ++w) high = V::max(high, load(r, w));
      total[r] = high;
    }
    V::largests(total).store(top);
    for (int64_t r = 0; r < count; ++r) {
      const V high = V::set(top[r]);
      V sum_e = V::zero(), sum_ez = V::zero();
      HIERPOOL_UNROLL for (int w = 0; w < W; ++w) {
        const V z = centred(load(r, w), high, scale);
        e[r][w] = exp(z);
        sum_e = sum_e + e[r][w];
        sum_ez = V::fma(e[r][w], z, sum_ez);
      }
      total[r] = sum_e, weighted[r] = sum_ez;
    }
    const T entropy = finish(V::select(count, V::sums(total), V::set(T(1))), V::sums(weighted), inverse);
    for (int64_t r = 0; r < count; ++r) {
      const V factor = V::set(inverse[r]);
      T* to = dst + r * ld_dst;
      HIERPOOL_UNROLL for (int w = 0; w < W - 1; ++w)(e[r][w] * factor).store(to + w * L);
      (e[r][W - 1] * factor).store(to + (W - 1) * L, last);
    }
    return entropy;
  }

  // One division and one logarithm serve all rows. With p = e / sum: -sum p log p = log sum - (sum e z) / sum
  static T finish(V sum, V weighted_sum, T* inverse) {
    const V factor = V::divide(V::set(T(1)), sum);
    factor.store(inverse);
    return (log(sum) - weighted_sum * factor).sum();
  }

  // The same for rows of any length, in three passes over each.
  static T wide_rows(T* dst, int64_t ld_dst, const T* src, int64_t ld_src, int64_t n, int64_t count,
                     T inverse_temperature) {
    T sum[L], weighted_sum[L], inverse[L];
    for (int64_t r = 0; r < L; ++r) sum[r] = 1, weighted_sum[r] = 0;
    for (int64_t r = 0; r < count; ++r) {
      sum[r] = exponentials(dst + r * ld_dst, src + r * ld_src, n, inverse_temperature, weighted_sum[r]);
    }
    const T entropy = finish(V::load(sum), V::load(weighted_sum), inverse);
    for (int64_t r = 0; r < count; ++r) scale_row(dst + r * ld_dst, n, inverse[r]);
    return entropy;
  }

  // dst = exp((src - max) inverse_temperature). Returns the sum of dst, and that of dst log dst.
  static T exponentials(T* dst, const T* src, int64_t n, T inverse_temperature, T& weighted_sum) {
    const V lowest = V::set(-__builtin_huge_val()), scale = V::set(inverse_temperature);
    const auto load = [&](int64_t i) {
      return i + L <= n ? V::load(src + i) : V::select(n - i, V::load(src + i, n - i), lowest);
    };
    V high = lowest;
    for (int64_t i = 0; i < n; i += L) high = V::max(high, load(i));
    const V top = V::set(high.largest());
    V total = V::zero(), weighted = V::zero();
    for (int64_t i = 0; i < n; i += L) {
      const V z = centred(load(i), top, scale);
      const V e = exp(z);
      total = total + e;
      weighted = V::fma(e, z, weighted);
      i + L <= n ? e.store(dst + i) : e.store(dst + i, n - i);
    }
    weighted_sum = weighted.sum();
    return total.sum();
  }

  static void scale_row(T* row, int64_t n, T factor) {
    const V scale = V::set(factor);
    int64_t i = 0;
    for (; i + L <= n; i += L) (V::load(row + i) * scale).store(row + i);
    if (i < n) (V::load(row + i, n - i) * scale).store(row + i, n - i);
  }

  static double softmax(T* dst, int64_t ld_dst, const T* src, int64_t ld_src, int64_t n, int64_t count,
                        T inverse_temperature) {
    double entropy = 0;
    const auto for_blocks = [&](const auto& rows) {
      for (int64_t i = 0; i < count; i += L) {
        entropy += rows(dst + i * ld_dst, src + i * ld_src, count - i < L ? count - i : L);
      }
    };
    if (n > kNarrow * L) {
      for_blocks([&](T* to, const T* from, int64_t rows) {
        return wide_rows(to, ld_dst, from, ld_src, n, rows, inverse_temperature);
      });
      return entropy;
    }
    Stripes<T>::template with<kNarrow>(n, [&](auto stripe, int64_t last) {
      for_blocks([&](T* to, const T* from, int64_t rows) {
        return narrow_rows<stripe.kVectors>(to, ld_dst, from, ld_src, last, rows, inverse_temperature);
      });
    });
    return entropy;
  }

  static T entropy(const T* p, int64_t n) {
    const V one = V::set(T(1));
    V total = V::zero();
    int64_t i = 0;
    for (; i + L <= n; i += L) {
      const V v = V::load(p + i);
      total = V::fma(v, log(V::where_positive(v, v, one)), total);
    }
    if (i < n) {
      const V v = V::load(p + i, n - i);
      total = V::fma(v, log(V::where_positive(v, v, one)), total);
    }
    return -total.sum();
  }

  static void entropy_backward(T* dp, const T* p, int64_t n, T scale) {
    const V one = V::set(T(1));
    const V factor = V::set(-scale);
    int64_t i = 0;
    for (; i + L <= n; i += L) {
      const V v = V::load(p + i);
      const V term = factor * (one + log(V::where_positive(v, v, one)));
      (V::load(dp + i) + V::where_positive(v, term, V::zero())).store(dp + i);
    }
    if (i < n) {
      const V v = V::load(p + i, n - i);
      const V term = factor * (one + log(V::where_positive(v, v, one)));
      (V::load(dp + i, n - i) + V::where_positive(v, term, V::zero())).store(dp + i, n - i);
    }
  }

  // The derivative of a vector of p = softmax: g = dp - scale (1 + log p) where p > 0.
  template <bool WithEntropy>
  static V with_entropy(V dp, V p, V factor) {
    if constexpr (!WithEntropy) return dp;
    const V one = V::set(T(1)), term = factor * (one + log(V::where_positive(p, p, one)));
    return dp + V::where_positive(p, term, V::zero());
  }

  struct Gradient {
    T* dst;
    int64_t ld_dst;
    const T* p;
    int64_t ld_p;
    const T* dp;
    int64_t ld_dp;
    T inverse_temperature, entropy;
  };

  // Rows [first, first + count), at most as many as there are lanes, of W vectors, step by step as above.
  template <int W, bool WithEntropy>
  static void narrow_gradient(const Gradient& x, int64_t first, int64_t count, int64_t last) {
    const V factor = V::set(-x.entropy), scale = V::set(x.inverse_temperature);
    const auto load = [&](const T* from, int w) {
      return w < W - 1 ? V::load(from + w * L) : V::load(from + w * L, last);
    };
    V g[L][W], product[L];
    T mean[L];
    for (int64_t r = count; r < L; ++r) product[r] = V::zero();
    for (int64_t r = 0; r < count; ++r) {
      const T *p = x.p + (first + r) * x.ld_p, *dp = x.dp + (first + r) * x.ld_dp;
      V sum = V::zero();
      HIERPOOL_UNROLL for (int w = 0; w < W; ++w) {
        const V value = load(p, w);
        g[r][w] = with_entropy<WithEntropy>(load(dp, w), value, factor);
        sum = V::fma(value, g[r][w], sum);
      }
      product[r] = sum;
    }
    V::sums(product).store(mean);
    for (int64_t r = 0; r < count; ++r) {
      const T* p = x.p + (first + r) * x.ld_p;
      T* dst = x.dst + (first + r) * x.ld_dst;
      const V centre = V::set(mean[r]);
      HIERPOOL_UNROLL for (int w = 0; w < W; ++w) {
        const V value = scale * load(p, w) * (g[r][w] - centre);
        w < W - 1 ? value.store(dst + w * L) : value.store(dst + w * L, last);
      }
    }
  }

  static void wide_gradient(const Gradient& x, int64_t row, int64_t n) {
    const T *p = x.p + row * x.ld_p, *dp = x.dp + row * x.ld_dp;
    T* dst = x.dst + row * x.ld_dst;
    if (x.entropy != 0) {
      if (dst != dp) {
        for (int64_t i = 0; i < n; ++i) dst[i] = dp[i];
      }
      entropy_backward(dst, p, n, x.entropy);
      dp = dst;
    }
    const V mean = V::set(BasicRows<T>::dot(p, dp, n)), scale = V::set(x.inverse_temperature);
    int64_t i = 0;
    for (; i + L <= n; i += L) (scale * V::load(p + i) * (V::load(dp + i) - mean)).store(dst + i);
    if (i < n) (scale * V::load(p + i, n - i) * (V::load(dp + i, n - i) - mean)).store(dst + i, n - i);
  }

  static void softmax_backward(T* dst, int64_t ld_dst, const T* p, int64_t ld_p, const T* dp, int64_t ld_dp,
                               int64_t n, int64_t count, T inverse_temperature, T entropy) {
    const Gradient x{dst, ld_dst, p, ld_p, dp, ld_dp, inverse_temperature, entropy};
    if (n > kNarrow * L) {
      for (int64_t row = 0; row < count; ++row) wide_gradient(x, row, n);
      return;
    }
    Stripes<T>::template with<kNarrow>(n, [&](auto stripe, int64_t last) {
      for (int64_t i = 0; i < count; i += L) {
        const int64_t rows = count - i < L ? count - i : L;
        entropy != 0 ? narrow_gradient<stripe.kVectors, true>(x, i, rows, last)
                     : narrow_gradient<stripe.kVectors, false>(x, i, rows, last);
      }
    });
  }
};
