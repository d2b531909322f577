// The loops of SELU: scale x where x > 0, else scale alpha (exp(x) - 1); scale and alpha are those of Klambauer et al.,
// NeurIPS 2017.

template <typename T>
struct SeluRows {
  using V = Vec<T>;
  static constexpr int64_t L = V::kLanes;
  static constexpr T kScale = T(1.0507009873554804934193349852946);
  static constexpr T kLowest = T(1.0507009873554804934193349852946 * 1.6732632423543772848170429916717);

  // out = op(a, b) on n elements; b may be a
  template <typename Op>
  static void for_each(T* out, const T* a, const T* b, int64_t n, const Op& op) {
    int64_t i = 0;
    for (; i + L <= n; i += L) op(V::load(a + i), V::load(b + i)).store(out + i);
    if (i < n) op(V::load(a + i, n - i), V::load(b + i, n - i)).store(out + i, n - i);
  }

  static void selu(T* y, int64_t n) {
    const V scale = V::set(kScale), lowest = V::set(kLowest);
    for_each(y, y, y, n, [&](V x, V) { return V::where_positive(x, scale * x, lowest * expm1(x)); });
  }

  static void selu_backward(T* dx, const T* dy, const T* y, int64_t n) {
    const V scale = V::set(kScale), lowest = V::set(kLowest);
    for_each(dx, dy, y, n, [&](V g, V v) { return g * V::where_positive(v, scale, v + lowest); });
  }
};
