// exp and log of float vectors, to within a few units in the last place over the whole range.
// Included inside the namespace of one instruction set, after its Vec.

// exp(x) = 2^n exp(r), |r| <= ln(2)/2, by its Taylor series: the first term left out is below 6e-9. For x <= 88.
static inline Vec<float> exp(Vec<float> x) {
  using V = Vec<float>;
  x = V::max(V::set(-150.0f), x);  // below: 0 all the same; NaN stays NaN
  const V n = V::round(x * V::set(1.44269504f));
  V r = V::fma(n, V::set(-0.693145752f), x);  // ln 2 in two parts, the first exact in a product with n
  r = V::fma(n, V::set(-1.42860677e-6f), r);
  V y = V::set(1.0f / 5040);
  y = V::fma(y, r, V::set(1.0f / 720));
  y = V::fma(y, r, V::set(1.0f / 120));
  y = V::fma(y, r, V::set(1.0f / 24));
  y = V::fma(y, r, V::set(1.0f / 6));
  y = V::fma(y, r, V::set(0.5f));
  y = V::fma(y, r, V::set(1.0f));
  y = V::fma(y, r, V::set(1.0f));
  return V::scale(y, n);
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
