#include "hierpool/segment_max.h"

#include <algorithm>
#include <vector>

#include "cpu/accumulation.h"
#include "cpu/buffer.h"
#include "cpu/isa.h"
#include "cpu/row_kernels.h"
#include "cpu/tasks.h"

namespace hierpool::cpu {
namespace {

constexpr int64_t kTaskElements = int64_t{1} << 14;
constexpr int64_t kLeastColumns = 16;  // of one task: a cache line of floats

// Rows with all rows of their groups.
struct Range {
  int64_t row, last_row;
  int64_t group, last_group;
};

// Rows by groups.
class Groups {
 public:
  explicit Groups(const Segments& s) : group_(s.group), n_(s.n) {
    if (!s.group) list(s);
    split(s);
  }

  // The group of a row; -1: none.
  int64_t operator[](int64_t row) const { return group_[row]; }

  // run(range, begin, end) for all ranges and, where they are fewer than threads, for parts of the columns.
  template <typename Run>
  void each(const Runtime& runtime, const Run& run) const {
    const auto count = static_cast<int64_t>(ranges_.size());
    const int64_t most = ceil_div(n_, kLeastColumns),
                  parts = std::min(ceil_div(runtime.threads, count), most);
    if (parts < 1) return;
    const int64_t width = ceil_div(most, parts) * kLeastColumns;
    run_tasks(runtime, count * parts, [&](int64_t task, int64_t) {
      const int64_t begin = std::min(task % parts * width, n_);
      run(ranges_[static_cast<size_t>(task / parts)], begin, std::min(begin + width, n_));
    });
  }

 private:
  void list(const Segments& s) {
    const int64_t per_group = s.groups > 0 ? s.rows / s.groups : 0;
    own_.resize(static_cast<size_t>(s.rows));
    for (int64_t i = 0, group = 0, end = per_group; i < s.rows; ++i) {
      if (i == end) ++group, end += per_group;
      own_[static_cast<size_t>(i)] = s.mask && !s.mask[i] ? -1 : group;
    }
    group_ = own_.data();
  }

  // Into ranges of about kTaskElements, or one of all rows where groups are not in order.
  void split(const Segments& s) {
    Range range{0, s.rows, 0, s.groups};
    int64_t last = -1;
    for (int64_t i = 0; i < s.rows; ++i) {
      const int64_t group = group_[i];
      if (group < 0 || group == last) continue;
      if (group < last) {
        ranges_.assign(1, {0, s.rows, 0, s.groups});
        return;
      }
      if (last >= 0 && (i - range.row) * s.n >= kTaskElements) {
        ranges_.push_back({range.row, i, range.group, group});
        range.row = i, range.group = group;
      }
      last = group;
    }
    ranges_.push_back(range);
  }

  const int64_t* group_;
  int64_t n_;
  std::vector<int64_t> own_;
  std::vector<Range> ranges_;
};

}  // namespace

void segment_max_fwd(const Segments& s, const void* x, void* y, const Runtime& runtime) {
  const Groups groups(s);
  with_accumulation_type(s.is_double, [&]<typename T>(T) {
    const RowKernels<T>& k = row_kernels<T>(isa_in_force());
    groups.each(for_work(runtime, s.rows * s.n), [&](const Range& range, int64_t begin, int64_t end) {
      T* const to = static_cast<T*>(y) + begin;
      const T* const from = static_cast<const T*>(x) + begin;
      std::vector<bool> seen(static_cast<size_t>(range.last_group - range.group));
      for (int64_t i = range.row; i < range.last_row; ++i) {
        const int64_t group = groups[i];
        if (group < 0) continue;
        auto known = seen[static_cast<size_t>(group - range.group)];
        known ? k.larger(to + group * s.n, from + i * s.n, end - begin)
              : static_cast<void>(std::copy_n(from + i * s.n, end - begin, to + group * s.n));
        known = true;
      }
      for (int64_t group = range.group; group < range.last_group; ++group) {
        if (!seen[static_cast<size_t>(group - range.group)]) std::fill_n(to + group * s.n, end - begin, T(0));
      }
    });
  });
}

void segment_max_bwd(const Segments& s, const void* x, const void* y, const void* dy, void* dx,
                     const Runtime& runtime) {
  const Groups groups(s);
  with_accumulation_type(s.is_double, [&]<typename T>(T) {
    const RowKernels<T>& k = row_kernels<T>(isa_in_force());
    const Buffer<T> shares(s.groups * s.n);
    groups.each(for_work(runtime, s.rows * s.n), [&](const Range& range, int64_t begin, int64_t end) {
      const int64_t width = end - begin;
      T* const share = shares.data() + begin;
      const auto* const from = static_cast<const T*>(x) + begin;
      const auto* const largest = static_cast<const T*>(y) + begin;
      for (int64_t group = range.group; group < range.last_group; ++group) {
        std::fill_n(share + group * s.n, width, T(0));
      }
      for (int64_t i = range.row; i < range.last_row; ++i) {
        const int64_t group = groups[i];
        if (group >= 0) k.count_equal(share + group * s.n, from + i * s.n, largest + group * s.n, width);
      }
      for (int64_t group = range.group; group < range.last_group; ++group) {
        const T* const slope = static_cast<const T*>(dy) + group * s.n + begin;
        for (int64_t j = 0; j < width; ++j) share[group * s.n + j] = slope[j] / share[group * s.n + j];
      }
      for (int64_t i = range.row; i < range.last_row; ++i) {
        T* const to = static_cast<T*>(dx) + i * s.n + begin;
        const int64_t group = groups[i];
        if (group < 0) {
          std::fill_n(to, width, T(0));
        } else {
          k.share_equal(to, share + group * s.n, from + i * s.n, largest + group * s.n, width);
        }
      }
    });
  });
}

}  // namespace hierpool::cpu
