// The loops of the matrix product, which keeps tiles of C in registers.

template <typename T>
struct GemmRows {
  using V = Vec<T>;
  static constexpr int64_t L = V::kLanes;

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

  // M rows x W vectors of C in registers; the last vector is full, or has t.last elements.
  template <int M, int W, bool Full>
  static void tile(const Tile t) {
    V acc[M][W];
    HIERPOOL_UNROLL for (int r = 0; r < M; ++r) {
      HIERPOOL_UNROLL for (int w = 0; w < W; ++w) acc[r][w] = V::zero();
    }
    const T* a = t.a;
    const T* b = t.b;
    for (int64_t p = 0; p < t.k; ++p, a += t.a_col, b += t.ldb) {
      V row[W];
      HIERPOOL_UNROLL for (int w = 0; w < W - 1; ++w) row[w] = V::load(b + w * L);
      row[W - 1] = Full ? V::load(b + (W - 1) * L) : V::load(b + (W - 1) * L, t.last);
      HIERPOOL_UNROLL for (int r = 0; r < M; ++r) {
        const V factor = V::set(a[r * t.a_row]);
        HIERPOOL_UNROLL for (int w = 0; w < W; ++w) acc[r][w] = V::fma(factor, row[w], acc[r][w]);
      }
    }
    HIERPOOL_UNROLL for (int r = 0; r < M; ++r) {
      T* c = t.c + r * t.ldc;
      HIERPOOL_UNROLL for (int w = 0; w < W; ++w) {
        if (Full || w < W - 1) {
          (t.accumulate ? V::load(c + w * L) + acc[r][w] : acc[r][w]).store(c + w * L);
        } else {
          (t.accumulate ? V::load(c + w * L, t.last) + acc[r][w] : acc[r][w]).store(c + w * L, t.last);
        }
      }
    }
  }

  template <int W, bool Full>
  static void column_of_tiles(Tile t, int64_t m) {
    constexpr int M = V::kTileRows;
    for (; m >= M; m -= M, t.a += M * t.a_row, t.c += M * t.ldc) tile<M, W, Full>(t);
    if constexpr (M > 4) {
      for (; m >= 4; m -= 4, t.a += 4 * t.a_row, t.c += 4 * t.ldc) tile<4, W, Full>(t);
    }
    for (; m >= 2; m -= 2, t.a += 2 * t.a_row, t.c += 2 * t.ldc) tile<2, W, Full>(t);
    if (m == 1) tile<1, W, Full>(t);
  }

  template <int W>
  static void stripe_of_tiles(const Tile& t, int64_t m) {
    t.last == L ? column_of_tiles<W, true>(t, m) : column_of_tiles<W, false>(t, m);
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
          case 1: stripe_of_tiles<1>(t, m); break;
          case 2: stripe_of_tiles<2>(t, m); break;
          case 3: stripe_of_tiles<3>(t, m); break;
          default:
            if constexpr (V::kTileVecs > 3) stripe_of_tiles<4>(t, m);
        }
      }
      first += width;
    }
  }

  static void column_sums(T* sums, const T* rows, int64_t ld, int64_t count, int64_t n) {
    const T one = 1;
    gemm(1, n, count, &one, 0, 0, rows, ld, sums, n, true);
  }
};
