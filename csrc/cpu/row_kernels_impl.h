// The loops of row_kernels.h, written once over Vec. Included inside the namespace of one instruction set, after
// its Vec; templates of the standard library stay out, as the linker would share one set's copy with all others.

template <typename T>
struct Rows {
  using V = Vec<T>;
  static constexpr int64_t L = V::kLanes;

  template <typename U>
  static void load_type(T* dst, const U* src, int64_t n) {
    int64_t i = 0;
    for (; i + L <= n; i += L) V::load_as(src + i).store(dst + i);
    if (i == n) return;
    U tail[L] = {};
    for (int64_t j = i; j < n; ++j) tail[j - i] = src[j];
    V::load_as(tail).store(dst + i, n - i);
  }

  static void load(T* dst, const void* src, DType type, int64_t n) {
    switch (type) {
      case DType::f32: return load_type(dst, static_cast<const float*>(src), n);
      case DType::f64: return load_type(dst, static_cast<const double*>(src), n);
      case DType::bf16: return load_type(dst, static_cast<const BFloat16*>(src), n);
      case DType::f16: return load_type(dst, static_cast<const Half*>(src), n);
      case DType::i8: return load_type(dst, static_cast<const int8_t*>(src), n);
      case DType::u8: return load_type(dst, static_cast<const uint8_t*>(src), n);
    }
  }

  template <typename U>
  static void store_type(U* dst, const T* src, int64_t n) {
    int64_t i = 0;
    for (; i + L <= n; i += L) V::load(src + i).store_as(dst + i);
    if (i == n) return;
    U tail[L];
    V::load(src + i, n - i).store_as(tail);
    for (int64_t j = i; j < n; ++j) dst[j] = tail[j - i];
  }

  static void store(void* dst, DType type, const T* src, int64_t n) {
    switch (type) {
      case DType::f64: return store_type(static_cast<double*>(dst), src, n);
      case DType::bf16: return store_type(static_cast<BFloat16*>(dst), src, n);
      case DType::f16: return store_type(static_cast<Half*>(dst), src, n);
      default: return store_type(static_cast<float*>(dst), src, n);
    }
  }

  static void softmax(T* dst, const T* src, int64_t n, T inverse_temperature) {
    const V scale = V::set(inverse_temperature);
    const V lowest = V::set(-__builtin_huge_val());
    V high = lowest;
    int64_t i = 0;
    for (; i + L <= n; i += L) high = V::max(high, V::load(src + i));
    T largest = high.largest();
    for (; i < n; ++i) largest = src[i] > largest ? src[i] : largest;
    const V top = V::set(largest);
    V total = V::zero();
    for (i = 0; i + L <= n; i += L) {
      const V e = exp((V::load(src + i) - top) * scale);
      e.store(dst + i);
      total = total + e;
    }
    T sum = total.sum();
    if (i < n) {
      const V e = exp((V::load(src + i, n - i) - top) * scale);
      e.store(dst + i, n - i);
      for (int64_t j = i; j < n; ++j) sum += dst[j];
    }
    const V inverse = V::set(T(1) / sum);
    for (i = 0; i + L <= n; i += L) (V::load(dst + i) * inverse).store(dst + i);
    if (i < n) (V::load(dst + i, n - i) * inverse).store(dst + i, n - i);
  }

  static void softmax_backward(T* dst, const T* p, const T* dp, int64_t n, T inverse_temperature) {
    const V mean = V::set(dot(p, dp, n));
    const V scale = V::set(inverse_temperature);
    int64_t i = 0;
    for (; i + L <= n; i += L) (scale * V::load(p + i) * (V::load(dp + i) - mean)).store(dst + i);
    if (i < n) (scale * V::load(p + i, n - i) * (V::load(dp + i, n - i) - mean)).store(dst + i, n - i);
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

  static T dot(const T* a, const T* b, int64_t n) {
    V even = V::zero();
    V odd = V::zero();
    int64_t i = 0;
    for (; i + 2 * L <= n; i += 2 * L) {
      even = V::fma(V::load(a + i), V::load(b + i), even);
      odd = V::fma(V::load(a + i + L), V::load(b + i + L), odd);
    }
    for (; i < n; i += L) even = V::fma(V::load(a + i, n - i), V::load(b + i, n - i), even);
    return (even + odd).sum();
  }

  static void axpy(T* y, T alpha, const T* x, int64_t n) {
    const V factor = V::set(alpha);
    int64_t i = 0;
    for (; i + L <= n; i += L) V::fma(factor, V::load(x + i), V::load(y + i)).store(y + i);
    if (i < n) V::fma(factor, V::load(x + i, n - i), V::load(y + i, n - i)).store(y + i, n - i);
  }

  static RowStats<T> stats(const T* row, int64_t n) {
    V sum = V::zero();
    V sum_sq = V::zero();
    int64_t nonzeros = 0;
    for (int64_t i = 0; i < n; i += L) {
      const V v = i + L <= n ? V::load(row + i) : V::load(row + i, n - i);
      nonzeros += __builtin_popcount(v.nonzero());
      sum = sum + v;
      sum_sq = V::fma(v, v, sum_sq);
    }
    return {nonzeros, sum.sum(), sum_sq.sum()};
  }

  static int64_t nonzeros(const T* row, int64_t n, int32_t* index, T* value) {
    int64_t count = 0;
    for (int64_t i = 0; i < n; i += L) {
      const V v = i + L <= n ? V::load(row + i) : V::load(row + i, n - i);
      const uint32_t bits = v.nonzero();
      if (bits == 0) continue;
      V::compress_index(index + count, static_cast<int32_t>(i), bits);
      V::compress(value + count, v, bits);
      count += __builtin_popcount(bits);
    }
    return count;
  }

  // A stripe of W vectors of one output row; the last vector may be partial.
  template <int W>
  static void gather_stripe(T* out, int64_t n, const T* rows, int64_t ld, const int32_t* index,
                            const T* value, int64_t count) {
    V acc[W];
    for (int w = 0; w < W; ++w) acc[w] = V::zero();
    const int64_t rest = n - (W - 1) * L;
    for (int64_t e = 0; e < count; ++e) {
      const T* row = rows + index[e] * ld;
      const V factor = V::set(value[e]);
      for (int w = 0; w < W - 1; ++w) acc[w] = V::fma(factor, V::load(row + w * L), acc[w]);
      acc[W - 1] = V::fma(factor, V::load(row + (W - 1) * L, rest), acc[W - 1]);
    }
    for (int w = 0; w < W - 1; ++w) acc[w].store(out + w * L);
    acc[W - 1].store(out + (W - 1) * L, rest);
  }

  static void gather(T* out, int64_t n, const T* rows, int64_t ld, const int32_t* index, const T* value,
                     int64_t count) {
    for (; n > 8 * L; n -= 8 * L, out += 8 * L, rows += 8 * L) {
      gather_stripe<8>(out, 8 * L, rows, ld, index, value, count);
    }
    switch ((n + L - 1) / L) {
      case 8: return gather_stripe<8>(out, n, rows, ld, index, value, count);
      case 7: return gather_stripe<7>(out, n, rows, ld, index, value, count);
      case 6: return gather_stripe<6>(out, n, rows, ld, index, value, count);
      case 5: return gather_stripe<5>(out, n, rows, ld, index, value, count);
      case 4: return gather_stripe<4>(out, n, rows, ld, index, value, count);
      case 3: return gather_stripe<3>(out, n, rows, ld, index, value, count);
      case 2: return gather_stripe<2>(out, n, rows, ld, index, value, count);
      case 1: return gather_stripe<1>(out, n, rows, ld, index, value, count);
    }
  }

  struct Tile {
    const T* a;
    int64_t a_row, a_col;
    const T* b;
    int64_t ldb;
    T* c;
    int64_t ldc;
    int64_t k;
    int64_t last;  // elements of the last vector of a row of C
    bool accumulate;
  };

  // M rows x W vectors of C in registers.
  template <int M, int W>
  static void tile(const Tile& t) {
    V acc[M][W];
    for (int r = 0; r < M; ++r) {
      for (int w = 0; w < W; ++w) acc[r][w] = V::zero();
    }
    const bool full = t.last == L;
    const T* a = t.a;
    const T* b = t.b;
    for (int64_t p = 0; p < t.k; ++p, a += t.a_col, b += t.ldb) {
      V row[W];
      for (int w = 0; w < W - 1; ++w) row[w] = V::load(b + w * L);
      row[W - 1] = full ? V::load(b + (W - 1) * L) : V::load(b + (W - 1) * L, t.last);
      for (int r = 0; r < M; ++r) {
        const V factor = V::set(a[r * t.a_row]);
        for (int w = 0; w < W; ++w) acc[r][w] = V::fma(factor, row[w], acc[r][w]);
      }
    }
    for (int r = 0; r < M; ++r) {
      T* c = t.c + r * t.ldc;
      for (int w = 0; w < W; ++w) {
        const int64_t lanes = w == W - 1 ? t.last : L;
        const V base = t.accumulate ? V::load(c + w * L, lanes) : V::zero();
        (base + acc[r][w]).store(c + w * L, lanes);
      }
    }
  }

  template <int W>
  static void column_of_tiles(Tile t, int64_t m) {
    constexpr int M = V::kTileRows;
    const T* a = t.a;
    T* c = t.c;
    int64_t i = 0;
    const auto at = [&](int64_t row) {
      t.a = a + row * t.a_row;
      t.c = c + row * t.ldc;
    };
    for (; i + M <= m; i += M) at(i), tile<M, W>(t);
    if constexpr (M > 4) {
      for (; i + 4 <= m; i += 4) at(i), tile<4, W>(t);
    }
    for (; i + 2 <= m; i += 2) at(i), tile<2, W>(t);
    for (; i < m; ++i) at(i), tile<1, W>(t);
  }

  // Blocks of the inner dimension: the stripe of B stays in the nearest caches, and no sum runs longer in one
  // register than is good for its accuracy.
  static constexpr int64_t kInner = 256;

  static void gemm(int64_t m, int64_t n, int64_t k, const T* a, int64_t a_row, int64_t a_col, const T* b,
                   int64_t ldb, T* c, int64_t ldc, bool accumulate) {
    const int64_t vectors = (n + L - 1) / L;
    const int64_t stripes = (vectors + V::kTileVecs - 1) / V::kTileVecs;
    int64_t first = 0;
    for (int64_t stripe = 0; stripe < stripes; ++stripe) {
      const int64_t width = (vectors - first + stripes - stripe - 1) / (stripes - stripe);
      const int64_t column = first * L;
      const int64_t rest = n - column - (width - 1) * L;
      for (int64_t p = 0; p == 0 || p < k; p += kInner) {
        const Tile t{a + p * a_col,
                     a_row,
                     a_col,
                     b + p * ldb + column,
                     ldb,
                     c + column,
                     ldc,
                     k - p < kInner ? k - p : kInner,
                     rest < L ? rest : L,
                     accumulate || p > 0};
        switch (width) {
          case 1: column_of_tiles<1>(t, m); break;
          case 2: column_of_tiles<2>(t, m); break;
          case 3: column_of_tiles<3>(t, m); break;
          default:
            if constexpr (V::kTileVecs > 3) column_of_tiles<4>(t, m);
        }
      }
      first += width;
    }
  }

  static constexpr RowKernels<T> kTable{load, store, softmax, softmax_backward, entropy, entropy_backward,
                                        dot,  axpy,  stats,   nonzeros,         gather,  gemm};
};

extern const RowKernels<float> kFloatRows;
extern const RowKernels<double> kDoubleRows;
const RowKernels<float> kFloatRows = Rows<float>::kTable;
const RowKernels<double> kDoubleRows = Rows<double>::kTable;
