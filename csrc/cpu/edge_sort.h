// Sorting edges by row and column: first into blocks of rows that fit in a cache, then each block by itself.
#pragma once

#include <algorithm>
#include <bit>
#include <compare>
#include <cstdint>
#include <numeric>
#include <utility>

#include "cpu/buffer.h"
#include "cpu/tasks.h"

namespace hierpool::cpu {

constexpr int64_t kChunkEdges = int64_t{1} << 16;  // of one task, at least
constexpr int64_t kMaxChunks = 64;                 // each has a histogram of the blocks
constexpr int64_t kBlockEdges = int64_t{1}
                                << 13;  // of one block, on average, until there are kMaxBlocks of them
constexpr int64_t kMaxBlocks = int64_t{1} << 10;  // each is a stream that is written to

// Bits that numbers below `count` need.
inline int bits_for(int64_t count) {
  return count <= 1 ? 0 : static_cast<int>(std::bit_width(static_cast<uint64_t>(count - 1)));
}

// Edges are sorted as words of [row within its block | column | number of the edge], as many bits as each needs.
struct Layout {
  int row_bits, col_bits, id_bits;
  bool fits_in_one_word() const { return row_bits + col_bits + id_bits < 64; }
};

struct OneWord {
  uint64_t bits;
  auto operator<=>(const OneWord&) const = default;

  static OneWord make(const Layout& l, uint64_t row, uint64_t col, uint64_t id) {
    return {row << (l.col_bits + l.id_bits) | col << l.id_bits | (l.id_bits == 0 ? 0 : id)};
  }
  uint64_t place(const Layout& l) const { return bits >> l.id_bits; }
  uint64_t id(const Layout& l) const { return bits & ((uint64_t{1} << l.id_bits) - 1); }
};

struct TwoWords {
  uint64_t key, number;
  auto operator<=>(const TwoWords&) const = default;

  static TwoWords make(const Layout& l, uint64_t row, uint64_t col, uint64_t id) {
    return {row << l.col_bits | col, id};
  }
  uint64_t place(const Layout&) const { return key; }
  uint64_t id(const Layout&) const { return number; }
};

template <typename Item>
int64_t row_of(const Item& item, const Layout& l) {
  return static_cast<int64_t>(item.place(l) >> l.col_bits);
}

template <typename Item>
int64_t col_of(const Item& item, const Layout& l) {
  return static_cast<int64_t>(item.place(l) & ((uint64_t{1} << l.col_bits) - 1));
}

// Least significant digits first; stable.
template <typename Item>
void radix_sort_by_column(Item* items, Item* scratch, int64_t n, const Layout& l) {
  constexpr int kBits = 11;
  int64_t count[(1 << kBits) + 1];
  Item* from = items;
  Item* to = scratch;
  for (int shift = 0; shift < l.col_bits; shift += kBits) {
    const uint64_t mask = (uint64_t{1} << std::min(kBits, l.col_bits - shift)) - 1;
    const auto digit = [&](const Item& item) { return item.place(l) >> shift & mask; };
    std::fill(std::begin(count), std::end(count), 0);
    for (int64_t i = 0; i < n; ++i) ++count[digit(from[i]) + 1];
    std::partial_sum(std::begin(count), std::end(count), std::begin(count));
    for (int64_t i = 0; i < n; ++i) to[count[digit(from[i])]++] = from[i];
    std::swap(from, to);
  }
  if (from != items) std::copy_n(from, n, items);
}

template <typename Item>
void sort_row(Item* items, Item* scratch, int64_t n, const Layout& l) {
  constexpr int64_t kInsertion = 24, kComparison = 2048;
  if (n <= kInsertion) {
    for (int64_t i = 1; i < n; ++i) {
      const Item item = items[i];
      int64_t j = i;
      for (; j > 0 && item < items[j - 1]; --j) items[j] = items[j - 1];
      items[j] = item;
    }
  } else if (!std::is_sorted(items, items + n)) {
    if (n <= kComparison) {
      std::sort(items, items + n);
    } else {
      radix_sort_by_column(items, scratch, n, l);
    }
  }
}

// The edges of `Source`, which has nodes(), edges() and each(begin, end, f), calling f(row, col) for edges in order.
template <typename Item>
class SortedEdges {
 public:
  template <typename Source>
  SortedEdges(const Source& source, const Layout& layout, int shift, const Runtime& runtime)
      : layout_(layout),
        shift_(shift),
        nodes_(source.nodes()),
        blocks_(block_count(source.nodes(), shift)),
        items_(source.edges()),
        start_(blocks_ + 1) {
    spread(source, runtime);
  }

  static int64_t block_count(int64_t nodes, int shift) { return nodes == 0 ? 0 : ((nodes - 1) >> shift) + 1; }

  const Layout& layout() const { return layout_; }
  int64_t blocks() const { return blocks_; }
  int64_t first_row(int64_t block) const { return block << shift_; }
  int64_t last_row(int64_t block) const { return std::min(nodes_, (block + 1) << shift_); }
  int64_t start(int64_t block) const { return start_.data()[block]; }
  const Item* items() const { return items_.data(); }

  // Sorts a block; returns how many different places its edges have.
  int64_t sort_block(int64_t block) {
    const int64_t begin = start(block), n = start(block + 1) - begin;
    Item* items = items_.data() + begin;
    if (!std::is_sorted(items, items + n)) {
      const Buffer<Item> scratch(n);
      std::copy_n(items, n, scratch.data());
      const int64_t rows = last_row(block) - first_row(block);
      const Buffer<int64_t> next(rows + 1);
      std::fill_n(next.data(), rows + 1, 0);
      for (int64_t i = 0; i < n; ++i) ++next.data()[row_of(items[i], layout_) + 1];
      std::partial_sum(next.data(), next.data() + rows + 1, next.data());
      for (int64_t i = 0; i < n; ++i) {
        const Item item = scratch.data()[i];
        items[next.data()[row_of(item, layout_)]++] = item;
      }
      int64_t first = 0;
      for (int64_t r = 0; r < rows; ++r) {  // next[r] is now where row r ends
        sort_row(items + first, scratch.data(), next.data()[r] - first, layout_);
        first = next.data()[r];
      }
    }
    int64_t places = n > 0;
    for (int64_t i = 1; i < n; ++i) places += items[i].place(layout_) != items[i - 1].place(layout_);
    return places;
  }

 private:
  // Chunks of edges are cut by their number alone, and keep their order in every block.
  template <typename Source>
  void spread(const Source& source, const Runtime& runtime) {
    const int64_t edges = source.edges();
    const int64_t chunk = std::max(kChunkEdges, ceil_div(edges, kMaxChunks));
    const int64_t chunks = ceil_div(edges, chunk);
    const Buffer<int64_t> next(chunks * blocks_);
    run_range_tasks(runtime, edges, chunk, [&](int64_t begin, int64_t end, int64_t) {
      int64_t* own = next.data() + begin / chunk * blocks_;
      std::fill_n(own, blocks_, 0);
      source.each(begin, end, [&](int64_t row, int64_t, int64_t) { ++own[row >> shift_]; });
    });
    int64_t sum = 0;
    for (int64_t block = 0; block < blocks_; ++block) {
      start_.data()[block] = sum;
      for (int64_t c = 0; c < chunks; ++c) {
        sum += std::exchange(next.data()[c * blocks_ + block], sum);
      }
    }
    start_.data()[blocks_] = sum;
    run_range_tasks(runtime, edges, chunk, [&](int64_t begin, int64_t end, int64_t) {
      int64_t* own = next.data() + begin / chunk * blocks_;
      source.each(begin, end, [&](int64_t row, int64_t col, int64_t id) {
        const uint64_t local = static_cast<uint64_t>(row - ((row >> shift_) << shift_));
        items_.data()[own[row >> shift_]++] =
            Item::make(layout_, local, static_cast<uint64_t>(col), static_cast<uint64_t>(id));
      });
    });
  }

  Layout layout_;
  int shift_;  // rows of a block: 2^shift
  int64_t nodes_, blocks_;
  Buffer<Item> items_;
  Buffer<int64_t> start_;  // first item of each block
};

// Sorts with the items that fit, and hands the result to use(SortedEdges<Item>&). Edge numbers are kept if `want_id`.
template <typename Source, typename Use>
void with_sorted_edges(const Source& source, int64_t columns, bool want_id, const Runtime& runtime,
                       const Use& use) {
  const int64_t nodes = source.nodes(), edges = source.edges();
  const int64_t blocks = std::clamp<int64_t>(edges / kBlockEdges, 1, kMaxBlocks);
  const int shift = bits_for((nodes + blocks - 1) / blocks);
  const Layout layout{std::min(shift, bits_for(nodes)), bits_for(columns), want_id ? bits_for(edges) : 0};
  if (layout.fits_in_one_word()) {
    SortedEdges<OneWord> sorted(source, layout, shift, runtime);
    use(sorted);
  } else {
    SortedEdges<TwoWords> sorted(source, layout, shift, runtime);
    use(sorted);
  }
}

}  // namespace hierpool::cpu
