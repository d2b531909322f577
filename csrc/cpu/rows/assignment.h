// Sums over the rows of an assignment S.

template <typename T>
struct Stripes;

template <typename T>
struct AssignmentRows {
  using V = Vec<T>;
  static constexpr int64_t L = V::kLanes;
  static constexpr int64_t kRows = 16;  // whose products are added in T

  struct Rows {
    const T* degree;
    const T* s;
    int64_t ld_s;
    const T* m;
    int64_t ld_m;
    int64_t count;
  };

  // The sums of W columns of vectors, the last of which has `last` elements.
  template <int W>
  static AssignmentSums stripe(T* volume, int64_t last, const Rows& rows) {
    V of_volume[W];
    const auto load = [&](const T* p, int w) {
      return w < W - 1 ? V::load(p + w * L) : V::load(p + w * L, last);
    };
    HIERPOOL_UNROLL for (int w = 0; w < W; ++w) of_volume[w] = load(volume, w);
    AssignmentSums sums{0, 0};
    for (int64_t first = 0; first < rows.count; first += kRows) {
      const int64_t end = first + kRows < rows.count ? first + kRows : rows.count;
      V trace = V::zero(), cut = V::zero();
      for (int64_t i = first; i < end; ++i) {
        const V degree = V::set(rows.degree[i]);
        HIERPOOL_UNROLL for (int w = 0; w < W; ++w) {
          const V s = load(rows.s + i * rows.ld_s, w), weighted = degree * s;
          trace = V::fma(s, load(rows.m + i * rows.ld_m, w), trace);
          cut = V::fma(s, weighted, cut);
          of_volume[w] = of_volume[w] + weighted;
        }
      }
      sums.trace += static_cast<double>(trace.sum());
      sums.cut += static_cast<double>(cut.sum());
    }
    HIERPOOL_UNROLL for (int w = 0; w < W - 1; ++w) of_volume[w].store(volume + w * L);
    of_volume[W - 1].store(volume + (W - 1) * L, last);
    return sums;
  }

  static AssignmentSums sums(T* volume, const T* degree, const T* s, int64_t ld_s, const T* m, int64_t ld_m,
                             int64_t count, int64_t n) {
    Rows rows{degree, s, ld_s, m, ld_m, count};
    AssignmentSums total{0, 0};
    const auto add = [&](const AssignmentSums& part) { total.trace += part.trace, total.cut += part.cut; };
    for (; n > 4 * L; n -= 4 * L, volume += 4 * L, rows.s += 4 * L, rows.m += 4 * L) {
      add(stripe<4>(volume, L, rows));
    }
    Stripes<T>::template with<4>(n,
                                 [&](auto w, int64_t last) { add(stripe<w.kVectors>(volume, last, rows)); });
    return total;
  }
};
