// The loops of asym(t) = rho t where t >= 0, else -t, of t = s - q, over rows of S. NaN stays NaN, in the derivative too.

template <typename T>
struct AsymmetricRows {
  using V = Vec<T>;
  static constexpr int64_t L = V::kLanes;

  static V load(const T* p, int64_t count) { return count == L ? V::load(p) : V::load(p, count); }

  // up where s >= q, down where s < q.
  static V slope(V q, V s, V up, V down) {
    const V below = q - s;
    return V::where_positive(below, down, V::where_positive(s - q, up, below + up));
  }

  static void asymmetric_sums(T* norm, T* slopes, int64_t* row, const T* s, int64_t ld, int64_t first,
                              int64_t count, const T* q, int64_t n, T rho) {
    const V up = V::set(rho), down = V::set(T(-1)), minus = V::set(-rho);
    for (int64_t k = 0; k < n; k += L) {
      const int64_t lanes = n - k < L ? n - k : L;
      const V level = load(q + k, lanes);
      uint32_t missing = 0;
      for (int64_t j = 0; j < lanes; ++j) missing |= static_cast<uint32_t>(row[k + j] < 0) << j;
      V sum = V::zero(), slope_sum = V::zero();
      for (int64_t i = 0; i < count; ++i) {
        const V x = load(s + i * ld + k, lanes);
        const V below = level - x;
        sum = sum + V::where_positive(below, below, below * minus);
        slope_sum = slope_sum + slope(level, x, up, down);
        const uint32_t found = missing & ~below.nonzero();
        if (found != 0) {
          missing &= ~found;
          for (int64_t j = 0; j < lanes; ++j) {
            if (found >> j & 1u) row[k + j] = first + i;
          }
        }
      }
      lanes == L ? sum.store(norm + k) : sum.store(norm + k, lanes);
      lanes == L ? slope_sum.store(slopes + k) : slope_sum.store(slopes + k, lanes);
    }
  }

  static void asymmetric_gradient(T* dst, int64_t ld_dst, const T* s, int64_t ld, int64_t count, const T* q,
                                  int64_t n, T scale, T rho) {
    const V up = V::set(scale * rho), down = V::set(-scale);
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t k = 0; k < n; k += L) {
        const int64_t lanes = n - k < L ? n - k : L;
        const V value = slope(load(q + k, lanes), load(s + i * ld + k, lanes), up, down);
        T* p = dst + i * ld_dst + k;
        lanes == L ? value.store(p) : value.store(p, lanes);
      }
    }
  }
};
