// Loops over blocks of rows in which every column has numbers of its own, as in normalisation over rows.

template <typename T>
struct ColumnRows {
  using V = Vec<T>;
  static constexpr int64_t L = V::kLanes;

  // Calls run(column, load, store) for every vector of a row, where load(p) and store(v, p) know its elements.
  template <typename Run>
  static void for_vectors(int64_t n, const Run& run) {
    int64_t j = 0;
    for (; j + L <= n; j += L) {
      run(j, [](const T* p) { return V::load(p); }, [](V v, T* p) { v.store(p); });
    }
    if (j == n) return;
    const int64_t rest = n - j;
    run(j, [rest](const T* p) { return V::load(p, rest); }, [rest](V v, T* p) { v.store(p, rest); });
  }

  static V passed(V v, bool relu) { return relu ? V::max(V::zero(), v) : v; }

  static void add_rows(T* y, int64_t ld_y, const T* scale, const T* a, int64_t ld_a, const T* bias, int64_t n,
                       int64_t count) {
    for_vectors(n, [&](int64_t j, auto load, auto store) {
      const V offset = bias ? load(bias + j) : V::zero();
      for (int64_t i = 0; i < count; ++i) {
        T* to = y + i * ld_y + j;
        const V added = a ? load(a + i * ld_a + j) + offset : offset;
        store(V::fma(V::set(scale ? scale[i] : T(1)), load(to), added), to);
      }
    });
  }

  static void scale_rows(T* out, int64_t ld_out, const T* scale, const T* a, int64_t ld_a, int64_t n,
                         int64_t count) {
    for_vectors(n, [&](int64_t j, auto load, auto store) {
      for (int64_t i = 0; i < count; ++i)
        store(V::set(scale[i]) * load(a + i * ld_a + j), out + i * ld_out + j);
    });
  }

  static void column_squares(T* sums, const T* rows, int64_t ld, const T* mean, int64_t n, int64_t count) {
    for_vectors(n, [&](int64_t j, auto load, auto store) {
      const V middle = load(mean + j);
      V sum = V::zero();
      for (int64_t i = 0; i < count; ++i) {
        const V centred = load(rows + i * ld + j) - middle;
        sum = V::fma(centred, centred, sum);
      }
      store(sum, sums + j);
    });
  }

  static void passed_columns(T* out, int64_t ld_out, const T* rows, int64_t ld, bool relu, int64_t n,
                             int64_t count) {
    for_vectors(n, [&](int64_t j, auto load, auto store) {
      for (int64_t i = 0; i < count; ++i) store(passed(load(rows + i * ld + j), relu), out + i * ld_out + j);
    });
  }

  static void scale_columns(T* out, int64_t ld_out, const T* rows, int64_t ld, const T* mean, const T* scale,
                            const T* shift, bool relu, int64_t n, int64_t count) {
    for_vectors(n, [&](int64_t j, auto load, auto store) {
      const V middle = load(mean + j), factor = load(scale + j), offset = load(shift + j);
      for (int64_t i = 0; i < count; ++i) {
        const V centred = passed(load(rows + i * ld + j), relu) - middle;
        store(V::fma(factor, centred, offset), out + i * ld_out + j);
      }
    });
  }

  static void column_gradients(T* sums, T* along, const T* dy, int64_t ld_dy, const T* rows, int64_t ld,
                               const T* mean, int64_t n, int64_t count) {
    for_vectors(n, [&](int64_t j, auto load, auto store) {
      const V middle = load(mean + j);
      V sum = V::zero(), product = V::zero();
      for (int64_t i = 0; i < count; ++i) {
        const V g = load(dy + i * ld_dy + j);
        sum = sum + g;
        product = V::fma(g, passed(load(rows + i * ld + j), true) - middle, product);
      }
      store(sum, sums + j);
      store(product, along + j);
    });
  }

  static void combine_columns(T* dy, int64_t ld_dy, const T* rows, int64_t ld, const T* mean, const T* scale,
                              const T* slope, const T* shift, int64_t n, int64_t count) {
    for_vectors(n, [&](int64_t j, auto load, auto store) {
      const V middle = load(mean + j), factor = load(scale + j), other = load(slope + j),
              offset = load(shift + j);
      for (int64_t i = 0; i < count; ++i) {
        T* to = dy + i * ld_dy + j;
        const V centred = passed(load(rows + i * ld + j), true) - middle;
        store(V::fma(factor, load(to), V::fma(other, centred, offset)), to);
      }
    });
  }
};
