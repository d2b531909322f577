// Rows of few vectors; conversion, sums and products of rows.

// A number of vectors that the compiler knows.
template <int W>
struct Stripe {
  static constexpr int kVectors = W;
};

template <typename T>
struct Stripes {
  static constexpr int64_t L = Vec<T>::kLanes;

  // Calls run(Stripe<w>(), elements of the last vector) for a row of 1 <= n <= W L elements, w vectors.
  template <int W, typename Run>
  static void with(int64_t n, const Run& run) {
    if (n > (W - 1) * L) {
      run(Stripe<W>(), n - (W - 1) * L);
    } else if constexpr (W > 1) {
      with<W - 1>(n, run);
    }
  }
};

template <typename T>
struct BasicRows {
  using V = Vec<T>;
  static constexpr int64_t L = V::kLanes;

  template <typename U>
  static void load_type(T* dst, const U* src, int64_t n) {
    int64_t i = 0;
    for (; i + L <= n; i += L) V::load_as(src + i).store(dst + i);
    if (i == n) return;
    if constexpr (requires { V::load_as(src, n); }) {
      V::load_as(src + i, n - i).store(dst + i, n - i);
    } else {
      U tail[L] = {};
      for (int64_t j = i; j < n; ++j) tail[j - i] = src[j];
      V::load_as(tail).store(dst + i, n - i);
    }
  }

  // Calls run(a pointer to elements of the type) with src.
  template <typename Run>
  static auto with_type(const void* src, DType type, const Run& run) {
    switch (type) {
      case DType::f64: return run(static_cast<const double*>(src));
      case DType::bf16: return run(static_cast<const BFloat16*>(src));
      case DType::f16: return run(static_cast<const Half*>(src));
      case DType::i8: return run(static_cast<const int8_t*>(src));
      case DType::u8: return run(static_cast<const uint8_t*>(src));
      default: return run(static_cast<const float*>(src));
    }
  }

  static void load(T* dst, const void* src, DType type, int64_t n) {
    with_type(src, type, [&](const auto* from) { load_type(dst, from, n); });
  }

  template <typename U>
  static void store_type(U* dst, const T* src, int64_t n) {
    int64_t i = 0;
    for (; i + L <= n; i += L) V::load(src + i).store_as(dst + i);
    if (i == n) return;
    if constexpr (requires(V v) { v.store_as(dst, n); }) {
      V::load(src + i, n - i).store_as(dst + i, n - i);
    } else {
      U tail[L];
      V::load(src + i, n - i).store_as(tail);
      for (int64_t j = i; j < n; ++j) dst[j] = tail[j - i];
    }
  }

  static void store(void* dst, DType type, const T* src, int64_t n) {
    switch (type) {
      case DType::f64: return store_type(static_cast<double*>(dst), src, n);
      case DType::bf16: return store_type(static_cast<BFloat16*>(dst), src, n);
      case DType::f16: return store_type(static_cast<Half*>(dst), src, n);
      default: return store_type(static_cast<float*>(dst), src, n);
    }
  }

  static void transpose(T* dst, const T* src, int64_t ld, int64_t rows, int64_t columns) {
    for (int64_t i = 0; i < rows; i += L) {
      const int64_t height = rows - i < L ? rows - i : L;
      for (int64_t j = 0; j < columns; j += L) {
        const int64_t width = columns - j < L ? columns - j : L;
        const T* from = src + i * ld + j;
        T* to = dst + j * rows + i;
        V block[L];
        HIERPOOL_UNROLL for (int64_t r = 0; r < L; ++r) {
          block[r] = r < height ? V::load(from + r * ld, width) : V::zero();
        }
        V::transpose(block);
        HIERPOOL_UNROLL for (int64_t c = 0; c < L; ++c) {
          if (c < width) block[c].store(to + c * rows, height);
        }
      }
    }
  }

  static bool is_transpose(const void* a, const void* b, DType type, int64_t ld, int64_t size) {
    return with_type(a, type, [&](const auto* rows) {
      const auto* columns = static_cast<decltype(rows)>(b);
      uint32_t equal = ~0u;
      for (int64_t i = 0; i < size; i += L) {
        for (int64_t j = 0; j < size; j += L) {
          V block[L];
          HIERPOOL_UNROLL for (int64_t r = 0; r < L; ++r) block[r] = V::load_as(columns + (j + r) * ld + i);
          V::transpose(block);
          HIERPOOL_UNROLL for (int64_t r = 0; r < L; ++r) {
            equal &= block[r].equal(V::load_as(rows + (i + r) * ld + j));
          }
        }
      }
      return equal == (1u << L) - 1;
    });
  }

  // Block by block: those below the diagonal are transposed, and on it, what is right of it.
  static void mirror(T* matrix, int64_t ld, int64_t n) {
    if (n <= L) return mirror_few(matrix, ld, n);
    for (int64_t i = 0; i < n; i += L) {
      const int64_t height = n - i < L ? n - i : L;
      for (int64_t j = 0; j <= i; j += L) {
        if (j == i && 2 * height <= L) return mirror_few(matrix + i * ld + i, ld, height);
        const int64_t width = j < i ? L : height;
        V block[L];
        HIERPOOL_UNROLL for (int64_t r = 0; r < L; ++r) {
          block[r] = r < height ? V::load(matrix + (i + r) * ld + j, width) : V::zero();
        }
        V::transpose(block);
        T* to = matrix + j * ld + i;
        HIERPOOL_UNROLL for (int64_t r = 0; r < L; ++r) {
          if (r >= width) continue;
          if (j == i) block[r] = V::select(r + 1, V::load(to + r * ld, height), block[r]);
          block[r].store(to + r * ld, height);
        }
      }
    }
  }

  static void mirror_few(T* matrix, int64_t ld, int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = i + 1; j < n; ++j) matrix[i * ld + j] = matrix[j * ld + i];
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

  static void add_terms(T* y, const T* a, const T* b, T beta, const T* c, T gamma, const T* d, int64_t n) {
    const V of_c = V::set(beta), of_d = V::set(gamma);
    for (int64_t i = 0; i < n; i += L) {
      const bool full = i + L <= n;
      const auto load = [&](const T* p) { return full ? V::load(p + i) : V::load(p + i, n - i); };
      V sum = load(y);
      if (a) sum = sum + load(a);
      if (b) sum = sum + load(b);
      if (c) sum = V::fma(of_c, load(c), sum);
      if (d) sum = V::fma(of_d, load(d), sum);
      full ? sum.store(y + i) : sum.store(y + i, n - i);
    }
  }

  static void product_gradient(T* dx, T* sums, const T* x, const T* g, T factor, const T* weight,
                               const T* slope, int64_t count, int64_t n) {
    const V scale = V::set(factor);
    for (int64_t i = 0; i < n; i += L) {
      const bool full = i + L <= n;
      const auto load = [&](const T* p) { return full ? V::load(p + i) : V::load(p + i, n - i); };
      const auto store = [&](V v, T* p) { full ? v.store(p + i) : v.store(p + i, n - i); };
      const V row = load(x);
      V out = g ? scale * load(g) : V::zero();
      for (int64_t c = 0; c < count; ++c) {
        if (slope[c] == 0) continue;
        const V by = V::set(slope[c]);
        store(V::fma(by, row, load(sums + c * n)), sums + c * n);
        out = V::fma(by, load(weight + c * n), out);
      }
      store(out, dx);
    }
  }

  static T unit(T* h, T* out, int64_t n, T shortest, bool relu) {
    const T norm = static_cast<T>(__builtin_sqrt(static_cast<double>(dot(h, h, n))));
    const T length = norm < shortest ? shortest : norm;  // NaN stays
    const V inverse = V::set(T(1) / length);
    const auto step = [&](int64_t i, V v, auto store) {
      const V y = v * inverse;
      store(h + i, y);
      store(out + i, relu ? V::max(V::zero(), y) : y);
    };
    int64_t i = 0;
    for (; i + L <= n; i += L) step(i, V::load(h + i), [](T* p, V v) { v.store(p); });
    if (i < n) step(i, V::load(h + i, n - i), [&](T* p, V v) { v.store(p, n - i); });
    return length;
  }

  static void unit_backward(T* dh, const T* dout, const T* y, int64_t n, T length, bool project, bool relu) {
    const auto load = [&](const T* p, int64_t i) {
      return i + L <= n ? V::load(p + i) : V::load(p + i, n - i);
    };
    const auto gradient = [&](int64_t i) {
      return relu ? V::where_positive(load(y, i), load(dout, i), V::zero()) : load(dout, i);
    };
    V along = V::zero();
    if (project) {
      for (int64_t i = 0; i < n; i += L) along = V::fma(gradient(i), load(y, i), along);
    }
    const V inverse = V::set(T(1) / length);
    const V back = V::set(-along.sum());
    for (int64_t i = 0; i < n; i += L) {
      const V result = V::fma(back, load(y, i), gradient(i)) * inverse;
      i + L <= n ? result.store(dh + i) : result.store(dh + i, n - i);
    }
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

  static void sparse_rows(const T* rows, int64_t ld, int64_t count, int64_t n, int32_t* rowptr, int32_t* col,
                          T* value, T* sum) {
    int64_t entries = rowptr[0];
    for (int64_t r = 0; r < count; ++r, rows += ld) {
      V total = V::zero();
      for (int64_t i = 0; i < n; i += L) {
        const V v = i + L <= n ? V::load(rows + i) : V::load(rows + i, n - i);
        const uint32_t bits = v.nonzero();
        total = total + v;
        if (bits == 0) continue;
        V::compress_index(col + entries, static_cast<int32_t>(i), bits);
        V::compress(value + entries, v, bits);
        entries += __builtin_popcount(bits);
      }
      rowptr[r + 1] = static_cast<int32_t>(entries);
      sum[r] = total.sum();
    }
  }
};
