// Segments of consecutive tiles, whose sums are added in order.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace hierpool::cpu {

// How many segments: as many as there are tiles, up to a number that serves all threads, as long as their sums are
// small beside the tensors.
inline int64_t segment_count(int64_t tiles, int64_t n, int64_t width, int64_t size) {
  constexpr int64_t kMost = 64, kSmall = int64_t{1} << 21;
  return std::clamp<int64_t>(std::max(kSmall, n * width / 8) / std::max<int64_t>(size, 1), 1,
                             std::min(tiles, kMost));
}

// Segments of about the same work: the first tile of each, and the number of tiles.
template <typename Work>
std::vector<int64_t> segment_bounds(int64_t tiles, int64_t segments, const Work& work) {
  int64_t total = 0;
  for (int64_t tile = 0; tile < tiles; ++tile) total += work(tile);
  std::vector<int64_t> bounds{0};
  int64_t done = 0;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const auto segment = static_cast<int64_t>(bounds.size());
    const bool due = done * segments >= total * segment || tiles - tile == segments - segment;
    if (segment < segments && tile > bounds.back() && due) bounds.push_back(tile);
    done += work(tile);
  }
  bounds.push_back(tiles);
  return bounds;
}

}  // namespace hierpool::cpu
