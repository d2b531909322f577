// The total variation over the edges of sparse graphs.
#include "cpu/accumulation.h"
#include "cpu/edge_rows.h"
#include "hierpool/total_variation.h"

namespace hierpool::cpu {
namespace {

template <typename T>
void forward(const EdgeRows& args, T* variation, T* entries, const Runtime& runtime) {
  const EdgeDifferences<T> a(args, args.a);
  const auto parts = parts_of(args, a);
  std::vector<VariationSum> sums(parts.tasks.size());
  parts.run(runtime, [&](const auto& part, size_t index, int64_t) { sums[index] = a.variation(part); });
  size_t index = 0;
  for (int64_t b = 0; b < args.graphs; ++b) {
    VariationSum total{0, 0};
    for (; index < sums.size() && parts.graph_of[index] == b; ++index) {
      total.sum += sums[index].sum;
      total.entries += sums[index].entries;
    }
    variation[b] = static_cast<T>(total.sum);
    entries[b] = static_cast<T>(total.entries);
  }
}

}  // namespace

void total_variation_fwd(const EdgeRows& args, void* variation, void* entries, const Runtime& runtime) {
  with_accumulation_type(args.is_double, [&]<typename T>(T) {
    forward(args, static_cast<T*>(variation), static_cast<T*>(entries), runtime);
  });
}

}  // namespace hierpool::cpu
