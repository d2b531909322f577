// The loops that take the largest or smallest of the rows that the entries of a sparse matrix name.

template <typename T>
struct ExtremeRows {
  // out[i] = the extreme of value[e] rows[col[e]] over the entries of row i, element by element, and column[i] the
  // column that it came from, of equal ones the first. NaN counts as extreme. Rows without entries are 0, from `none`.
  template <typename I>
  static void extreme(T* out, I* column, int64_t n, const T* rows, int64_t ld, bool smallest, I none,
                      const SparseRows<T, I>& a) {
    const T sign = smallest ? T(-1) : T(1);
    for (int64_t i = 0; i < a.count; ++i, out += n, column += n) {
      for (int64_t j = 0; j < n; ++j) out[j] = 0, column[j] = none;
      for (int64_t e = a.rowptr[i]; e < a.rowptr[i + 1]; ++e) {
        if (e + GatherRows<T>::kAhead < a.rowptr[a.count]) {
          GatherRows<T>::prefetch_row(rows, ld, n, a, e + GatherRows<T>::kAhead);
        }
        const T* row = rows + static_cast<int64_t>(a.col[e]) * ld;
        const T factor = a.value ? a.value[e] : T(1);
        const bool first = e == a.rowptr[i];
        for (int64_t j = 0; j < n; ++j) {
          const T v = factor * row[j], best = out[j];
          const bool better = first | (!(sign * v <= sign * best) & (best == best));
          out[j] = better ? v : best;
          column[j] = better ? a.col[e] : column[j];
        }
      }
    }
  }

  // The gradients of row i of x, from the entries (i, k) of the transpose and of the extremes k that came from it:
  // dx[i] = sum_e value[e] dy[col[e]] there, and dvalue[e], unless null, the sum of x[i] dy[col[e]] there.
  template <typename I>
  static void extreme_gradient(T* dx, T* dvalue, int64_t n, const T* x, int64_t ld, int64_t first,
                               const T* dy, const I* column, const SparseRows<T, I>& a) {
    for (int64_t i = 0; i < a.count; ++i, dx += n, x += ld) {
      const I own = static_cast<I>(first + i);
      for (int64_t j = 0; j < n; ++j) dx[j] = 0;
      for (int64_t e = a.rowptr[i]; e < a.rowptr[i + 1]; ++e) {
        const int64_t place = static_cast<int64_t>(a.col[e]) * n;
        const T factor = a.value ? a.value[e] : T(1);
        T sum = 0;
        for (int64_t j = 0; j < n; ++j) {
          const T grad = column[place + j] == own ? dy[place + j] : T(0);
          dx[j] += factor * grad;
          if (dvalue) sum += grad == 0 ? T(0) : grad * x[j];
        }
        if (dvalue) dvalue[e] = sum;
      }
    }
  }
};
