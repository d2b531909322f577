// The loops that gather rows of a matrix for the entries of a sparse one.

template <typename T>
struct GatherRows {
  using V = Vec<T>;
  static constexpr int64_t L = V::kLanes;

  // A stripe of W vectors of one output row; the last vector has `last` elements.
  template <int W>
  static void gather_stripe(T* out, int64_t last, const T* rows, int64_t ld, const int32_t* index,
                            const T* value, int64_t count) {
    V acc[W];
    HIERPOOL_UNROLL for (int w = 0; w < W; ++w) acc[w] = V::zero();
    for (int64_t e = 0; e < count; ++e) {
      const T* row = rows + index[e] * ld;
      const V factor = V::set(value[e]);
      HIERPOOL_UNROLL for (int w = 0; w < W - 1; ++w) acc[w] = V::fma(factor, V::load(row + w * L), acc[w]);
      acc[W - 1] = V::fma(factor, V::load(row + (W - 1) * L, last), acc[W - 1]);
    }
    HIERPOOL_UNROLL for (int w = 0; w < W - 1; ++w) acc[w].store(out + w * L);
    acc[W - 1].store(out + (W - 1) * L, last);
  }

  static void gather(T* out, int64_t n, const T* rows, int64_t ld, const int32_t* index, const T* value,
                     int64_t count) {
    for (; n > 8 * L; n -= 8 * L, out += 8 * L, rows += 8 * L) {
      gather_stripe<8>(out, L, rows, ld, index, value, count);
    }
    Stripes<T>::template with<8>(n, [&](auto stripe, int64_t last) {
      gather_stripe<stripe.kVectors>(out, last, rows, ld, index, value, count);
    });
  }

  // How many entries ahead of their use rows are asked for: rows of a large matrix are not in a cache.
  static constexpr int64_t kAhead = 16;

  template <typename I>
  static void prefetch_row(const T* rows, int64_t ld, int64_t n, const SparseRows<T, I>& a, int64_t e) {
    const char* row = reinterpret_cast<const char*>(rows + static_cast<int64_t>(a.col[e]) * ld);
    const int64_t bytes = n * static_cast<int64_t>(sizeof(T));
    for (int64_t offset = 0; offset < bytes; offset += 64) __builtin_prefetch(row + offset);
  }

  // A stripe of W vectors of all rows; the last vector has `last` elements.
  template <int W, bool Weighted, typename I>
  static void spmm_stripe(T* out, int64_t ld_out, int64_t last, const T* rows, int64_t ld,
                          const SparseRows<T, I>& a) {
    const int64_t end = a.rowptr[a.count];
    int64_t e = a.rowptr[0];
    for (int64_t i = 0; i < a.count; ++i, out += ld_out) {
      V acc[W];
      HIERPOOL_UNROLL for (int w = 0; w < W; ++w) acc[w] = V::zero();
      for (const int64_t row_end = a.rowptr[i + 1]; e < row_end; ++e) {
        if (e + kAhead < end) prefetch_row(rows, ld, (W - 1) * L + last, a, e + kAhead);
        const T* row = rows + static_cast<int64_t>(a.col[e]) * ld;
        const V factor = Weighted ? V::set(a.value[e]) : V::zero();
        HIERPOOL_UNROLL for (int w = 0; w < W; ++w) {
          const V v = w < W - 1 ? V::load(row + w * L) : V::load(row + w * L, last);
          acc[w] = Weighted ? V::fma(factor, v, acc[w]) : acc[w] + v;
        }
      }
      HIERPOOL_UNROLL for (int w = 0; w < W - 1; ++w) acc[w].store(out + w * L);
      acc[W - 1].store(out + (W - 1) * L, last);
    }
  }

  template <bool Weighted, typename I>
  static void spmm_stripes(T* out, int64_t ld_out, int64_t n, const T* rows, int64_t ld,
                           const SparseRows<T, I>& a) {
    for (; n > 8 * L; n -= 8 * L, out += 8 * L, rows += 8 * L) {
      spmm_stripe<8, Weighted>(out, ld_out, L, rows, ld, a);
    }
    Stripes<T>::template with<8>(n, [&](auto stripe, int64_t last) {
      spmm_stripe<stripe.kVectors, Weighted>(out, ld_out, last, rows, ld, a);
    });
  }

  template <typename I>
  static void spmm(T* out, int64_t ld_out, int64_t n, const T* rows, int64_t ld, const SparseRows<T, I>& a) {
    a.value ? spmm_stripes<true>(out, ld_out, n, rows, ld, a)
            : spmm_stripes<false>(out, ld_out, n, rows, ld, a);
  }

  template <typename I>
  static void sampled(T* out, int64_t n, const T* left, int64_t ld_left, const T* rows, int64_t ld,
                      const SparseRows<T, I>& a) {
    const int64_t end = a.rowptr[a.count];
    for (int64_t i = 0; i < a.count; ++i) {
      for (int64_t e = a.rowptr[i]; e < a.rowptr[i + 1]; ++e) {
        if (e + kAhead < end) prefetch_row(rows, ld, n, a, e + kAhead);
        out[e] = BasicRows<T>::dot(left + i * ld_left, rows + static_cast<int64_t>(a.col[e]) * ld, n);
      }
    }
  }
};
