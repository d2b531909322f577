// The loops of the binary cross-entropy between entries w of a matrix and q = min(p, 1), p = <s_i, s_j>:
//   -(w log(q + eps) + (1 - w) log(1 - q + eps)), NaN where p + eps is not positive.

template <typename T>
struct BceRows {
  using V = Vec<T>;
  static constexpr int64_t L = V::kLanes;

  struct Probability {
    V q;           // min(p, 1)
    V no, no_low;  // 1 - q, and what its rounding lost
    explicit Probability(V p) {
      const V one = V::set(T(1));
      q = V::where_positive(p - one, one, p);  // NaN stays NaN
      no = one - q;
      no_low = (one - no) - q;
    }
  };

  // log(high + low + eps) with the rounding of high + eps put right: near 1 nothing else is left of the logarithm.
  static V log_of(V high, V low, V eps) {
    const V sum = high + eps;
    const V rest = (eps - (sum - high)) + low;
    return log(sum) + V::divide(rest, sum);
  }

  static bool is_binary(V w) { return (w * (V::set(T(1)) - w)).nonzero() == 0; }

  static V term(V p, V w, V eps) {
    const Probability probability(p);
    const V zero = V::zero();
    V value;
    if (is_binary(w)) {  // one logarithm instead of two
      value = log_of(V::where_positive(w, probability.q, probability.no),
                     V::where_positive(w, zero, probability.no_low), eps);
    } else {
      const V no = (V::set(T(1)) - w) * log_of(probability.no, probability.no_low, eps);
      value = V::fma(w, log_of(probability.q, zero, eps), no);
    }
    return V::where_positive(p + eps, value, V::set(T(__builtin_nan(""))));
  }

  static T bce(const T* p, const T* w, int64_t n, T eps) {
    const V epsilon = V::set(eps);
    V sum = V::zero();
    int64_t i = 0;
    for (; i + L <= n; i += L) sum = sum + term(V::load(p + i), V::load(w + i), epsilon);
    if (i < n) {
      const V last = term(V::load(p + i, n - i), V::load(w + i, n - i), epsilon);
      sum = sum + V::select(n - i, last, V::zero());
    }
    return -sum.sum();
  }

  // The derivative of min(p, 1) is 1/2 where p = 1, as that of torch.min and torch.minimum.
  static V gradient(V p, V w, V eps) {
    const Probability probability(p);
    const V one = V::set(T(1)), zero = V::zero();
    V value;
    if (is_binary(w)) {
      const V sum = V::where_positive(w, probability.q, probability.no) + eps;
      value = V::divide(V::where_positive(w, zero - one, one), sum);
    } else {
      value = V::divide(one - w, probability.no + eps) - V::divide(w, probability.q + eps);
    }
    const V above = V::where_positive(p - one, zero, V::set(T(0.5)));
    return value * V::where_positive(one - p, one, above);
  }

  static void bce_gradient(T* dst, const T* p, const T* w, int64_t n, T eps, T scale) {
    const V epsilon = V::set(eps), factor = V::set(scale);
    int64_t i = 0;
    for (; i + L <= n; i += L) (factor * gradient(V::load(p + i), V::load(w + i), epsilon)).store(dst + i);
    if (i == n) return;
    (factor * gradient(V::load(p + i, n - i), V::load(w + i, n - i), epsilon)).store(dst + i, n - i);
  }

  static V log_odds(V p, V eps) {
    const Probability probability(p);
    const V value = log_of(probability.no, probability.no_low, eps) - log_of(probability.q, V::zero(), eps);
    return V::where_positive(p + eps, value, V::set(T(__builtin_nan(""))));
  }

  static void bce_log_odds(T* dst, const T* p, int64_t n, T eps, T scale) {
    const V epsilon = V::set(eps), factor = V::set(scale);
    int64_t i = 0;
    for (; i + L <= n; i += L) (factor * log_odds(V::load(p + i), epsilon)).store(dst + i);
    if (i < n) (factor * log_odds(V::load(p + i, n - i), epsilon)).store(dst + i, n - i);
  }
};
