// The loop over the neighbours of a node that makes an offer to one of them.

template <typename T>
struct OfferRows {
  using V = Vec<T>;
  static constexpr int64_t L = V::kLanes;

  // Of the n entries (col, value), without those of column `own`, the largest value above held[col]. Other threads may
  // write to held meanwhile.
  static Offer<T> best_offer(const T* held, const int32_t* col, const T* value, int64_t n, int32_t own) {
    constexpr T kNone = -__builtin_huge_val();
    const V none = V::set(kNone);
    Offer<T> best{kNone, -1, false};
    for (int64_t e = 0; e < n; e += L) {
      const int64_t count = n - e;
      V offered = V::select(count, V::load(value + e, count), none);
      if (const uint32_t loops = V::find(col + e, count, own)) offered = without(offered, loops);
      const V other = V::gather(held, col + e, count);
      best.tied |= (offered.equal(other) & offered.above(none)) != 0;
      const V taken = V::where_above(offered, other, offered, none);
      const T top = taken.largest();
      if (top > best.value) {
        const uint32_t places = taken.equal(V::set(top));
        best = {top, col[e + __builtin_ctz(places)], best.tied || (places & (places - 1)) != 0};
      } else if (top == best.value && top > kNone) {
        best.tied = true;
      }
    }
    return best;
  }

 private:
  static V without(V offered, uint32_t bits) {
    T lanes[L];
    offered.store(lanes);
    for (int64_t i = 0; i < L; ++i) {
      if (bits >> i & 1) lanes[i] = -__builtin_huge_val();
    }
    return V::load(lanes);
  }
};
