// exp, expm1 and log of float vectors, to within a few units in the last place over the whole range of normal numbers.

// exp of less is below the smallest normal number. Such results take a hundred times as long on some processors.
constexpr float kLowestExponent = -87.33654f;

// x = n ln 2 + r, |r| <= ln(2)/2
static inline Vec<float> reduce(Vec<float> x, Vec<float>& n) {
  using V = Vec<float>;
  x = V::max(V::set(kLowestExponent), x);  // NaN stays NaN
  n = V::round(x * V::set(1.44269504f));
  const V r = V::fma(n, V::set(-0.693145752f), x);  // ln 2 in two parts, the first exact in a product with n
  return V::fma(n, V::set(-1.42860677e-6f), r);
}

// (exp(r) - 1) / r by the Taylor series of exp: the first term left out of that is below 6e-9.
static inline Vec<float> exp_slope(Vec<float> r) {
  using V = Vec<float>;
  V y = V::set(1.0f / 5040);
  y = V::fma(y, r, V::set(1.0f / 720));
  y = V::fma(y, r, V::set(1.0f / 120));
  y = V::fma(y, r, V::set(1.0f / 24));
  y = V::fma(y, r, V::set(1.0f / 6));
  y = V::fma(y, r, V::set(0.5f));
  return V::fma(y, r, V::set(1.0f));
}

// exp(x) = 2^n exp(r), 0 in place of less than the smallest normal number. For x <= 88.
static inline Vec<float> exp(Vec<float> x) {
  using V = Vec<float>;
  V n;
  const V r = reduce(x, n), power = V::scale(V::fma(exp_slope(r), r, V::set(1.0f)), n);
  return V::where_above(V::set(kLowestExponent), x, V::zero(), power);
}

// exp(x) - 1 = 2^n (exp(r) - 1) + (2^n - 1), which keeps its digits near 0. For x <= 88.
static inline Vec<float> expm1(Vec<float> x) {
  using V = Vec<float>;
  V n;
  const V r = reduce(x, n);
  const V power = V::scale(V::set(1.0f), n);
  return V::fma(exp_slope(r) * r, power, power - V::set(1.0f));
}

// log(m 2^n) = n ln 2 + 2 artanh(t), t = (m - 1) / (m + 1), |t| <= 1/5: the first term left out is 2 t^13 / 13.
// For x > 0 and finite.
static inline Vec<float> log(Vec<float> x) {
  using V = Vec<float>;
  V m, n;
  V::split(x, m, n);
  const V t = V::divide(m - V::set(1.0f), m + V::set(1.0f));
  const V z = t * t;
  V y = V::set(1.0f / 11);
  y = V::fma(y, z, V::set(1.0f / 9));
  y = V::fma(y, z, V::set(1.0f / 7));
  y = V::fma(y, z, V::set(1.0f / 5));
  y = V::fma(y, z, V::set(1.0f / 3));
  y = V::fma(y * z, t, t);
  return V::fma(n, V::set(0.693147182f), y + y);
}
