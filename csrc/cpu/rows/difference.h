// The loops over differences x - y of rows at the entries of a sparse matrix: the sums of their absolute values, and
// their signs, which are the derivatives of these; sign(0) = 0.

template <typename T>
struct GatherRows;

template <typename T>
struct DifferenceRows {
  using V = Vec<T>;
  using Gather = GatherRows<T>;
  static constexpr int64_t L = V::kLanes;

  static V magnitude(V d) { return V::max(d, V::zero() - d); }  // NaN stays NaN

  static V sign(V d) {
    const V one = V::set(T(1)), zero = V::zero();
    return V::where_positive(d, one, V::where_positive(zero - d, zero - one, zero));
  }

  static T distance(const T* x, const T* y, int64_t n) {
    V even = V::zero();
    V odd = V::zero();
    int64_t i = 0;
    for (; i + 2 * L <= n; i += 2 * L) {
      even = even + magnitude(V::load(x + i) - V::load(y + i));
      odd = odd + magnitude(V::load(x + i + L) - V::load(y + i + L));
    }
    for (; i < n; i += L) even = even + magnitude(V::load(x + i, n - i) - V::load(y + i, n - i));
    return (even + odd).sum();
  }

  template <typename I>
  static void distances(T* out, int64_t n, const T* left, int64_t ld_left, const T* rows, int64_t ld, T scale,
                        const SparseRows<T, I>& a) {
    const int64_t end = a.rowptr[a.count];
    for (int64_t i = 0; i < a.count; ++i) {
      for (int64_t e = a.rowptr[i]; e < a.rowptr[i + 1]; ++e) {
        if (e + Gather::kAhead < end) Gather::prefetch_row(rows, ld, n, a, e + Gather::kAhead);
        out[e] = scale * distance(left + i * ld_left, rows + static_cast<int64_t>(a.col[e]) * ld, n);
      }
    }
  }

  // A stripe of W vectors of out; the last vector has `last` elements.
  template <int W>
  static void columns_stripe(T* out, int64_t last, int64_t n, const T* x, const T* columns, int64_t ld,
                             T scale) {
    V acc[W];
    HIERPOOL_UNROLL for (int w = 0; w < W; ++w) acc[w] = V::zero();
    for (int64_t k = 0; k < n; ++k, columns += ld) {
      const V element = V::set(x[k]);
      HIERPOOL_UNROLL for (int w = 0; w < W; ++w) {
        const V column = w < W - 1 ? V::load(columns + w * L) : V::load(columns + w * L, last);
        acc[w] = acc[w] + magnitude(element - column);
      }
    }
    const V factor = V::set(scale);
    HIERPOOL_UNROLL for (int w = 0; w < W - 1; ++w)(factor * acc[w]).store(out + w * L);
    (factor * acc[W - 1]).store(out + (W - 1) * L, last);
  }

  static void distances_to_columns(T* out, int64_t count, int64_t n, const T* x, const T* columns, int64_t ld,
                                   T scale) {
    constexpr int W = 4;
    int64_t j = 0;
    for (; j + W * L <= count; j += W * L) columns_stripe<W>(out + j, L, n, x, columns + j, ld, scale);
    for (; j < count; j += L) {
      columns_stripe<1>(out + j, count - j < L ? count - j : L, n, x, columns + j, ld, scale);
    }
  }

  // Entries whose terms are summed in vectors, before the sum goes on in float64.
  static constexpr int64_t kTerms = 256;

  template <typename I>
  static VariationSum variation(int64_t n, const T* left, int64_t ld_left, const T* rows, int64_t ld,
                                const SparseRows<T, I>& a) {
    const int64_t end = a.rowptr[a.count];
    VariationSum result{0, 0};
    for (int64_t i = 0; i < a.count; ++i, left += ld_left) {
      for (int64_t first = a.rowptr[i]; first < a.rowptr[i + 1]; first += kTerms) {
        const int64_t rest = a.rowptr[i + 1] - first;
        const int64_t last = first + (rest < kTerms ? rest : kTerms);
        V even = V::zero();
        V odd = V::zero();
        for (int64_t e = first; e < last; ++e) {
          if (e + Gather::kAhead < end) Gather::prefetch_row(rows, ld, n, a, e + Gather::kAhead);
          const T weight = a.value ? a.value[e] : T(1);
          if (weight == T(0)) continue;
          ++result.entries;
          const V factor = V::set(weight);
          const T* row = rows + static_cast<int64_t>(a.col[e]) * ld;
          int64_t k = 0;
          for (; k + 2 * L <= n; k += 2 * L) {
            even = V::fma(factor, magnitude(V::load(left + k) - V::load(row + k)), even);
            odd = V::fma(factor, magnitude(V::load(left + k + L) - V::load(row + k + L)), odd);
          }
          for (; k < n; k += L) {
            even = V::fma(factor, magnitude(V::load(left + k, n - k) - V::load(row + k, n - k)), even);
          }
        }
        result.sum += static_cast<double>((even + odd).sum());
      }
    }
    return result;
  }

  // A stripe of W vectors of all rows; the last vector has `last` elements.
  template <int W, typename I>
  static void signs_stripe(T* out, int64_t ld_out, int64_t last, const T* left, int64_t ld_left,
                           const T* rows, int64_t ld, T scale, bool accumulate, const SparseRows<T, I>& a) {
    const int64_t end = a.rowptr[a.count];
    const V outer = V::set(scale);
    int64_t e = a.rowptr[0];
    for (int64_t i = 0; i < a.count; ++i, out += ld_out, left += ld_left) {
      const auto load = [last](const T* p, int w) {
        return w < W - 1 ? V::load(p + w * L) : V::load(p + w * L, last);
      };
      V acc[W];
      HIERPOOL_UNROLL for (int w = 0; w < W; ++w) acc[w] = accumulate ? load(out, w) : V::zero();
      for (const int64_t row_end = a.rowptr[i + 1]; e < row_end; ++e) {
        if (e + Gather::kAhead < end) {
          Gather::prefetch_row(rows, ld, (W - 1) * L + last, a, e + Gather::kAhead);
        }
        const T* row = rows + static_cast<int64_t>(a.col[e]) * ld;
        const V factor = V::set(a.value ? a.value[e] : T(1));
        HIERPOOL_UNROLL for (int w = 0; w < W; ++w) {
          acc[w] = V::fma(factor, sign(load(left, w) - load(row, w)), acc[w]);
        }
      }
      HIERPOOL_UNROLL for (int w = 0; w < W - 1; ++w)(outer * acc[w]).store(out + w * L);
      (outer * acc[W - 1]).store(out + (W - 1) * L, last);
    }
  }

  template <typename I>
  static void signs(T* out, int64_t ld_out, int64_t n, const T* left, int64_t ld_left, const T* rows,
                    int64_t ld, T scale, bool accumulate, const SparseRows<T, I>& a) {
    for (; n > 8 * L; n -= 8 * L, out += 8 * L, left += 8 * L, rows += 8 * L) {
      signs_stripe<8>(out, ld_out, L, left, ld_left, rows, ld, scale, accumulate, a);
    }
    Stripes<T>::template with<8>(n, [&](auto stripe, int64_t last) {
      signs_stripe<stripe.kVectors>(out, ld_out, last, left, ld_left, rows, ld, scale, accumulate, a);
    });
  }
};
