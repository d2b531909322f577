// hierpool_native::csr_{build,transpose,is_symmetric,inspect,blocks,ranges}. Metadata was checked by hierpool.graph; values are
// checked here, and what is wrong with them is returned for the message to be written in Python.
#include "hierpool/graph_build.h"

#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "torch/csr.h"
#include "torch/runtime.h"

namespace hierpool::torch_binding {
namespace {

constexpr int64_t kMaxNodes = int64_t{1} << 32;

bool is_int64(const Tensor& index) { return index.scalar_type() == ScalarType::Long; }

Csr structure(const Tensor& rowptr, const Tensor& col) { return csr(rowptr, col, {}, false); }

// How nodes are grouped into graphs; the tensors own what the edges point to.
struct Grouping {
  CsrError error;
  Tensor ptr, order, rank;  // order and rank have no element unless the batch was not sorted
};

CsrError check_batch(int64_t nodes, const int64_t* batch, int64_t graphs) {
  for (int64_t i = 0; i < nodes; ++i) {
    if (batch[i] < 0 || batch[i] >= graphs) return {CsrError::batch_range, i, graphs};
  }
  return {};
}

Grouping group(const OptionalTensor& batch, const OptionalTensor& ptr, int64_t nodes, int64_t graphs) {
  Grouping out{{}, empty({0}, ScalarType::Long), empty({0}, ScalarType::Long), empty({0}, ScalarType::Long)};
  if (ptr) {
    out.ptr = *ptr;
    if (!cpu::csr_pointers_ascend(ptr->numel(), true, pointer(*ptr), nodes)) {
      out.error.kind = CsrError::graph_pointer;
    }
    return out;
  }
  if (!batch) {
    out.ptr = empty({2}, ScalarType::Long);
    auto* first = static_cast<int64_t*>(out.ptr.data_ptr());
    first[0] = 0, first[1] = nodes;
    return out;
  }
  const auto* graph_of = static_cast<const int64_t*>(pointer(*batch));
  if (graphs < 0) graphs = nodes == 0 ? 0 : *std::max_element(graph_of, graph_of + nodes) + 1;
  out.error = check_batch(nodes, graph_of, graphs);
  if (out.error.kind != CsrError::none) return out;
  out.ptr = empty({graphs + 1}, ScalarType::Long);
  Tensor order = empty({nodes}, ScalarType::Long), rank = empty({nodes}, ScalarType::Long);
  const auto data = [](const Tensor& t) { return static_cast<int64_t*>(t.data_ptr()); };
  if (!cpu::csr_sort_batch(nodes, graph_of, graphs, data(out.ptr), data(order), data(rank))) {
    out.order = std::move(order), out.rank = std::move(rank);
  }
  return out;
}

struct Outputs {
  ScalarType index, value_type;
  Tensor tensors[4];

  static void* allocate(void* context, GraphBuild::Output output, int64_t count) {
    auto& self = *static_cast<Outputs*>(context);
    Tensor& t = self.tensors[output];
    t = empty({count}, output == GraphBuild::value ? self.value_type : self.index);
    return t.data_ptr();
  }
};

// What Python has to know beside the tensors, in the bits of one number.
int64_t flags(const CsrError& error, bool as_given, bool has_value, bool symmetric) {
  return error.kind | as_given << 8 | has_value << 9 | symmetric << 10;
}

using Built = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, int64_t, int64_t, int64_t>;

// num_graphs: -1 for what batch says. Returns rowptr, col, value, slot, ptr, order, flags, and the places of an error.
Built csr_build(Tensor row, Tensor col, OptionalTensor weight, OptionalTensor batch, OptionalTensor ptr,
                int64_t num_nodes, int64_t num_graphs, bool merge, bool want_slot, bool want_symmetric,
                bool int64_index) {
  STD_TORCH_CHECK(num_nodes <= kMaxNodes, "a matrix of more than 2^32 nodes cannot be built");
  const Grouping groups = group(batch, ptr, num_nodes, num_graphs);
  const ScalarType index = int64_index ? ScalarType::Long : ScalarType::Int;
  const auto nothing = [](ScalarType type) { return empty({0}, type); };
  const bool double_weight = weight && weight->scalar_type() == ScalarType::Double;
  const ScalarType value_type = double_weight ? ScalarType::Double : ScalarType::Float;
  Outputs out{index, value_type, {nothing(index), nothing(index), nothing(value_type), nothing(index)}};
  BuiltGraph built{groups.error, false, false, {}};
  bool symmetric = false;
  if (groups.error.kind == CsrError::none) {
    GraphBuild b{};
    b.edges = {num_nodes,
               row.numel(),
               is_int64(row),
               pointer(row),
               pointer(col),
               static_cast<const int64_t*>(pointer(OptionalTensor(groups.rank))),
               groups.ptr.numel() - 1,
               static_cast<const int64_t*>(pointer(groups.ptr)),
               double_weight,
               pointer(weight)};
    b.merge = merge, b.want_slot = want_slot, b.int64_index = int64_index;
    b.allocate = Outputs::allocate, b.context = &out;
    built = cpu::csr_build(b, runtime());
    if (built.error.kind == CsrError::none && want_symmetric) {
      if (built.as_given) built.matrix.value = b.edges.weight;
      symmetric = cpu::csr_is_symmetric(built.matrix, double_weight ? 8 : 4, runtime());
    }
  }
  auto& [rowptr, columns, value, slot] = out.tensors;
  return {std::move(rowptr),
          std::move(columns),
          std::move(value),
          std::move(slot),
          groups.ptr,
          groups.order,
          flags(built.error, built.as_given, built.has_value, symmetric),
          built.error.first,
          built.error.second};
}

std::tuple<Tensor, Tensor, Tensor> csr_transpose(Tensor rowptr, Tensor col, int64_t columns) {
  const Csr a = structure(rowptr, col);
  std::tuple<Tensor, Tensor, Tensor> out{empty({columns + 1}, rowptr.scalar_type()),
                                         empty({col.numel()}, col.scalar_type()),
                                         empty({col.numel()}, col.scalar_type())};
  const auto& [rowptr_t, col_t, source] = out;
  cpu::csr_transpose(a, columns, rowptr_t.data_ptr(), col_t.data_ptr(), source.data_ptr(), runtime());
  return out;
}

bool csr_is_symmetric(Tensor rowptr, Tensor col, OptionalTensor value) {
  const int64_t bytes = value ? element_bytes(dtype(*value)) : 4;
  Csr a = structure(rowptr, col);
  a.value = pointer(value);
  return cpu::csr_is_symmetric(a, bytes, runtime());
}

// Returns flags, of which as_given says that columns ascend and differ, and the places of an error.
std::tuple<int64_t, int64_t, int64_t> csr_inspect(Tensor rowptr, Tensor col, Tensor ptr) {
  const CsrInspection found = cpu::csr_inspect(structure(rowptr, col), col.numel(), ptr.numel() - 1,
                                               static_cast<const int64_t*>(pointer(ptr)), runtime());
  return {flags(found.error, found.canonical, false, false), found.error.first, found.error.second};
}

// The blocks `index` of a block-diagonal matrix, whose first rows and columns are ptr and col_ptr: rowptr, col, ptr,
// col_ptr, and the rows and entries they come from, of which the last have no element unless they are wanted.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> csr_blocks(Tensor rowptr, Tensor col, Tensor ptr,
                                                                      Tensor col_ptr, Tensor index,
                                                                      bool want_entry) {
  for (const Tensor* t : {&ptr, &col_ptr, &index}) {
    STD_TORCH_CHECK(t->scalar_type() == ScalarType::Long, "pointers and numbers of blocks must be int64");
  }
  const auto data = [](const Tensor& t) { return static_cast<int64_t*>(pointer(t)); };
  const int64_t count = index.numel(), all = ptr.numel() - 1;
  const CsrBlocks blocks{structure(rowptr, col), data(ptr), data(col_ptr), count, data(index)};
  const bool exist =
      std::all_of(blocks.index, blocks.index + count, [&](int64_t b) { return 0 <= b && b < all; });
  STD_TORCH_CHECK(exist && col_ptr.numel() == all + 1, "there is no such block");
  const CsrBlocksSize size = cpu::csr_blocks_size(blocks);
  const auto numbers = [](int64_t n) { return empty({n}, ScalarType::Long); };
  Tensor out_rowptr = empty({size.rows + 1}, rowptr.scalar_type());
  Tensor out_col = empty({size.entries}, col.scalar_type());
  Tensor out_ptr = numbers(count + 1), out_col_ptr = numbers(count + 1);
  Tensor row = numbers(size.rows), entry = numbers(want_entry ? size.entries : 0);
  cpu::csr_blocks(blocks, data(out_ptr), data(out_col_ptr), out_rowptr.data_ptr(), out_col.data_ptr(),
                  data(row), want_entry ? data(entry) : nullptr);
  return {std::move(out_rowptr),  std::move(out_col), std::move(out_ptr),
          std::move(out_col_ptr), std::move(row),     std::move(entry)};
}

// offsets ascend. `elements` are in all ranges.
Tensor csr_ranges(Tensor offsets, int64_t elements) {
  const int64_t count = offsets.numel() - 1;
  STD_TORCH_CHECK(count >= 0 && (is_int64(offsets) || offsets.scalar_type() == ScalarType::Int),
                  "offsets must be one integer or more");
  Tensor range = empty({elements}, offsets.scalar_type());
  const auto check = [&](const auto* at) {
    STD_TORCH_CHECK(at[count] - at[0] == elements && std::is_sorted(at, at + count + 1),
                    "offsets must ascend to the number of elements");
  };
  is_int64(offsets) ? check(static_cast<const int64_t*>(pointer(offsets)))
                    : check(static_cast<const int32_t*>(pointer(offsets)));
  cpu::csr_ranges(count, is_int64(offsets), pointer(offsets), range.data_ptr(), runtime());
  return range;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(hierpool_native, m) {
  m.def(
      "csr_build(Tensor row, Tensor col, Tensor? weight, Tensor? batch, Tensor? ptr, int num_nodes,"
      " int num_graphs, bool merge, bool want_slot, bool want_symmetric, bool int64_index) -> (Tensor,"
      " Tensor, Tensor, Tensor, Tensor, Tensor, int, int, int)");
  m.def("csr_transpose(Tensor rowptr, Tensor col, int columns) -> (Tensor, Tensor, Tensor)");
  m.def("csr_is_symmetric(Tensor rowptr, Tensor col, Tensor? value) -> bool");
  m.def("csr_inspect(Tensor rowptr, Tensor col, Tensor ptr) -> (int, int, int)");
  m.def(
      "csr_blocks(Tensor rowptr, Tensor col, Tensor ptr, Tensor col_ptr, Tensor index, bool want_entry) -> "
      "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def("csr_ranges(Tensor offsets, int elements) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(hierpool_native, CPU, m) {
  m.impl("csr_build", TORCH_BOX(&csr_build));
  m.impl("csr_transpose", TORCH_BOX(&csr_transpose));
  m.impl("csr_is_symmetric", TORCH_BOX(&csr_is_symmetric));
  m.impl("csr_inspect", TORCH_BOX(&csr_inspect));
  m.impl("csr_blocks", TORCH_BOX(&csr_blocks));
  m.impl("csr_ranges", TORCH_BOX(&csr_ranges));
}

}  // namespace hierpool::torch_binding
