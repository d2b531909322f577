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

    static constexpr bool kIsSum = false;
    void skip(int64_t rows) { a += rows * a_row, c += rows * ldc; }
  };

  // More products, which are added to that of the tile.
  struct TileOfSum : Tile {
    const Factors<T>* others;
    int64_t count;
    int64_t row, column;  // of the others: the first row of A and the first column of B

    static constexpr bool kIsSum = true;
    void skip(int64_t rows) { Tile::skip(rows), row += rows; }
  };

  // The last vector of a row of a tile: full, with some of its elements, or with at most half of them.
  struct FullEnd {
    using Vector = V;
    static Vector load(const T* p, int64_t) { return V::load(p); }
    static void store(Vector v, T* p, int64_t) { v.store(p); }
    static Vector of(V v) { return v; }
  };
  struct PartEnd : FullEnd {
    static V load(const T* p, int64_t count) { return V::load(p, count); }
    static void store(V v, T* p, int64_t count) { v.store(p, count); }
  };
  template <typename Wide>
  struct LowEnd {
    using Vector = typename Wide::Low;
    static Vector load(const T* p, int64_t count) { return Vector::load(p, count); }
    static void store(Vector v, T* p, int64_t count) { v.store(p, count); }
    static Vector of(V v) { return v.low(); }
  };

  // M rows x W vectors of C in registers.
  template <int M, int W, typename End>
  struct Block {
    using Last = typename End::Vector;
    V acc[M][W];  // but for the last column of vectors
    Last end[M];

    void clear() {
      HIERPOOL_UNROLL for (int r = 0; r < M; ++r) {
        HIERPOOL_UNROLL for (int w = 0; w < W - 1; ++w) acc[r][w] = V::zero();
        end[r] = Last::zero();
      }
    }

    // += A B
    __attribute__((always_inline)) void multiply(const T* a, int64_t a_row, int64_t a_col, const T* b,
                                                 int64_t ldb, int64_t k, int64_t last) {
      for (int64_t p = 0; p < k; ++p, a += a_col, b += ldb) {
        V row[W];
        HIERPOOL_UNROLL for (int w = 0; w < W - 1; ++w) row[w] = V::load(b + w * L);
        const Last row_end = End::load(b + (W - 1) * L, last);
        HIERPOOL_UNROLL for (int r = 0; r < M; ++r) {
          const V factor = V::set(a[r * a_row]);
          HIERPOOL_UNROLL for (int w = 0; w < W - 1; ++w) acc[r][w] = V::fma(factor, row[w], acc[r][w]);
          end[r] = Last::fma(End::of(factor), row_end, end[r]);
        }
      }
    }

    void store(T* c, int64_t ldc, int64_t last, bool accumulate) const {
      HIERPOOL_UNROLL for (int r = 0; r < M; ++r, c += ldc) {
        HIERPOOL_UNROLL for (int w = 0; w < W - 1; ++w) {
          (accumulate ? V::load(c + w * L) + acc[r][w] : acc[r][w]).store(c + w * L);
        }
        T* to = c + (W - 1) * L;
        End::store(accumulate ? End::load(to, last) + end[r] : end[r], to, last);
      }
    }
  };

  template <int M, int W, typename End, typename Kind>
  static void tile(const Kind t) {
    Block<M, W, End> block;
    block.clear();
    block.multiply(t.a, t.a_row, t.a_col, t.b, t.ldb, t.k, t.last);
    if constexpr (Kind::kIsSum) {
      for (const Factors<T>* f = t.others; f < t.others + t.count; ++f) {
        block.multiply(f->a + t.row * f->a_row, f->a_row, f->a_col, f->b + t.column, f->ldb, f->k, t.last);
      }
    }
    block.store(t.c, t.ldc, t.last, t.accumulate);
  }

  template <int W, typename End, typename Kind>
  static void column_of_tiles(Kind t, int64_t m) {
    constexpr int M = V::kTileRows;
    for (; m >= M; m -= M, t.skip(M)) tile<M, W, End>(t);
    if constexpr (M > 4) {
      for (; m >= 4; m -= 4, t.skip(4)) tile<4, W, End>(t);
    }
    for (; m >= 2; m -= 2, t.skip(2)) tile<2, W, End>(t);
    if (m == 1) tile<1, W, End>(t);
  }

  template <int W, typename Kind>
  static void stripe_of_tiles(const Kind& t, int64_t m) {
    if (t.last == L) return column_of_tiles<W, FullEnd>(t, m);
    if constexpr (requires { typename V::Low; }) {
      if (t.last <= V::Low::kLanes) return column_of_tiles<W, LowEnd<V>>(t, m);
    }
    column_of_tiles<W, PartEnd>(t, m);
  }

  // Calls run(Stripe<w>(), first column, elements of the last vector) for stripes of C of about the same width.
  template <typename Run>
  static void for_stripes(int64_t n, const Run& run) {
    const int64_t vectors = (n + L - 1) / L;
    const int64_t stripes = (vectors + V::kTileVecs - 1) / V::kTileVecs;
    int64_t first = 0;
    for (int64_t stripe = 0; stripe < stripes; ++stripe) {
      const int64_t width = (vectors - first + stripes - stripe - 1) / (stripes - stripe);
      const int64_t column = first * L, rest = n - column - (width - 1) * L, last = rest < L ? rest : L;
      switch (width) {
        case 1: run(Stripe<1>(), column, last); break;
        case 2: run(Stripe<2>(), column, last); break;
        case 3: run(Stripe<3>(), column, last); break;
        default:
          if constexpr (V::kTileVecs > 3) run(Stripe<4>(), column, last);
      }
      first += width;
    }
  }

  // Blocks of the inner dimension: the stripe of B stays in the nearest caches, and no sum runs longer in one
  // register than is good for its accuracy.
  static constexpr int64_t kInner = 256;

  static void gemm(int64_t m, int64_t n, int64_t k, const T* a, int64_t a_row, int64_t a_col, const T* b,
                   int64_t ldb, T* c, int64_t ldc, bool accumulate) {
    for_stripes(n, [&](auto stripe, int64_t column, int64_t last) {
      for (int64_t p = 0; p == 0 || p < k; p += kInner) {
        const int64_t inner = k - p < kInner ? k - p : kInner;
        const Tile t{a + p * a_col, a_row, a_col, b + p * ldb + column, ldb, c + column,
                     ldc,           inner, last,  accumulate || p > 0};
        stripe_of_tiles<stripe.kVectors>(t, m);
      }
    });
  }

  static void sum_of_products(int64_t m, int64_t n, const Factors<T>* factors, int64_t count, T* c,
                              int64_t ldc) {
    const Factors<T>& f = factors[0];
    for_stripes(n, [&](auto stripe, int64_t column, int64_t last) {
      const Tile first{f.a, f.a_row, f.a_col, f.b + column, f.ldb, c + column, ldc, f.k, last, false};
      stripe_of_tiles<stripe.kVectors>(TileOfSum{first, factors + 1, count - 1, 0, column}, m);
    });
  }

  static void column_sums(T* sums, const T* rows, int64_t ld, int64_t count, int64_t n) {
    const T one = 1;
    gemm(1, n, count, &one, 0, 0, rows, ld, sums, n, true);
  }
};
