// The loops over rows that are in groups.

template <typename T>
struct SegmentRows {
  // y = the larger of y and x. NaN counts as largest.
  static void larger(T* y, const T* x, int64_t n) {
    for (int64_t j = 0; j < n; ++j) y[j] = (x[j] > y[j]) | (x[j] != x[j]) ? x[j] : y[j];
  }

  // count += 1 where x is y
  static void count_equal(T* count, const T* x, const T* y, int64_t n) {
    for (int64_t j = 0; j < n; ++j) count[j] += x[j] == y[j] ? T(1) : T(0);
  }

  // dx = share where x is y, else 0 times it, which is NaN where it is not finite
  static void share_equal(T* dx, const T* share, const T* x, const T* y, int64_t n) {
    for (int64_t j = 0; j < n; ++j) dx[j] = share[j] * (x[j] == y[j] ? T(1) : T(0));
  }
};
