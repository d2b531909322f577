// The nodes of each connected component.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/buffer.h"
#include "hierpool/selection.h"

namespace hierpool::cpu {

struct ComponentLists {
  std::vector<int64_t> begin;  // [components + 1], in node
  Buffer<int64_t> node;        // [N] nodes by component, ascending in each
  Buffer<int64_t> place;       // [N] of each node in its component

  // Components over the entries with usable[E] != 0, or over all if it is null, of the nodes with wanted(node).
  template <typename Wanted>
  ComponentLists(const Csr& a, const uint8_t* usable, const Wanted& wanted) : node(a.rows), place(a.rows) {
    const Buffer<int64_t> first(a.rows);
    components(a, usable, first.data());
    const Buffer<int64_t> number(a.rows);  // of the component of each first node
    begin.push_back(0);
    for (int64_t i = 0; i < a.rows; ++i) {
      if (!wanted(i)) continue;
      const int64_t f = first.data()[i];
      if (f == i) {
        number.data()[i] = std::ssize(begin) - 1;
        begin.push_back(0);
      }
      place.data()[i] = begin[static_cast<size_t>(number.data()[f]) + 1]++;
    }
    for (size_t c = 1; c < begin.size(); ++c) begin[c] += begin[c - 1];
    for (int64_t i = 0; i < a.rows; ++i) {
      if (!wanted(i)) continue;
      const int64_t c = number.data()[first.data()[i]];
      node.data()[begin[static_cast<size_t>(c)] + place.data()[i]] = i;
    }
  }

  int64_t count() const { return std::ssize(begin) - 1; }
  const int64_t* nodes(int64_t c) const { return node.data() + begin[static_cast<size_t>(c)]; }
  int64_t size(int64_t c) const { return begin[static_cast<size_t>(c) + 1] - begin[static_cast<size_t>(c)]; }
};

}  // namespace hierpool::cpu
