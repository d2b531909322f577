#include "hierpool/edge_distances.h"

#include "cpu/accumulation.h"
#include "cpu/edge_rows.h"

namespace hierpool::cpu {
namespace {

template <typename T>
T scale_of(const void* scale, int64_t graph) {
  return scale ? static_cast<const T*>(scale)[graph] : T(1);
}

struct RowRange {
  int64_t begin, end;
};

// One matrix after the other; the last one also scales.
template <typename T>
void sum_signs(const EdgeRows& args, const Csr& second, const void* scale, T* out, const Runtime& runtime) {
  const bool both = second.rowptr != nullptr;
  const auto add = [&](const Csr& matrix, bool last) {
    const EdgeDifferences<T> a(args, matrix);
    const auto hubs = a.hubs(matrix.rows, runtime);
    const GraphTasks<RowRange> tasks(args, [&](auto& ranges, int64_t begin, int64_t end) {
      const std::vector<int64_t> bounds = a.cut(begin, end, kEdgeTaskRows);
      for (size_t i = 0; i + 1 < bounds.size(); ++i) ranges.push_back({bounds[i], bounds[i + 1]});
    });
    tasks.run(runtime, [&](const RowRange& rows, size_t, int64_t graph) {
      a.signs(out + rows.begin * args.n, rows.begin, rows.end, hubs, last ? scale_of<T>(scale, graph) : T(1),
              both && last);
    });
  };
  add(args.a, !both);
  if (both) add(second, true);
}

}  // namespace

void edge_distances_fwd(const EdgeRows& args, const void* scale, void* out, const Runtime& runtime) {
  with_accumulation_type(args.is_double, [&]<typename T>(T) {
    const EdgeDifferences<T> a(args, args.a);
    parts_of(args, a).run(runtime, [&](const auto& part, size_t, int64_t graph) {
      a.distances(static_cast<T*>(out), scale_of<T>(scale, graph), part);
    });
  });
}

void edge_distances_bwd(const EdgeRows& args, const Csr& second, const void* scale, void* out,
                        const Runtime& runtime) {
  with_accumulation_type(
      args.is_double, [&]<typename T>(T) { sum_signs(args, second, scale, static_cast<T*>(out), runtime); });
}

}  // namespace hierpool::cpu
