// hierpool_native::sage_stack and sage_stack_backward. Arguments were checked by hierpool.nn.
#include "hierpool/sage_stack.h"

#include <torch/csrc/stable/library.h>

#include <tuple>
#include <vector>

#include "torch/csr.h"
#include "torch/runtime.h"

namespace hierpool::torch_binding {
namespace {

// The adjacency and the layers, kept for a call.
class Stack {
 public:
  // `graphs`: rowptr, col and perhaps value of A and perhaps of its transpose; or one tensor, A [graphs or 1, N, N].
  // `layers`: relation, perhaps root, perhaps bias and, of all but the last if there are `running` statistics, gain
  // and shift of each.
  Stack(const Tensor& x, const std::vector<Tensor>& graphs, const OptionalTensor& valid,
        const OptionalTensor& running, const std::vector<Tensor>& layers, bool root, bool bias)
      : x_(x), type_(x.scalar_type()), root_(root), bias_(bias), norm_(running) {
    STD_TORCH_CHECK(type_ == ScalarType::Float || type_ == ScalarType::Double,
                    "features must be float32 or float64");
    STD_TORCH_CHECK(x.dim() == 2 && (x.size(1) <= 1 || x.stride(1) == 1), "features must be contiguous rows");
    add_layers(layers);
    if (graphs.size() == 1) {
      add_dense(graphs[0], valid);
    } else {
      add_sparse(graphs);
    }
    STD_TORCH_CHECK(!running || running->numel() == stack.norms() * 2 * stack.layers[0].outputs,
                    "every norm must have running statistics");
  }
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;

  SageStack stack{};

  ScalarType type() const { return type_; }
  int64_t stride() const { return x_.size(0) <= 1 ? x_.size(1) : x_.stride(0); }
  int64_t rows() const { return cpu::sage_stack_rows(stack.graphs); }
  int64_t entries() const { return entries_; }

  // One array for all that the backward reads.
  int64_t saved_size(int64_t rows) const {
    const int64_t norms = stack.norms() * 2 * stack.layers[0].outputs;
    return rows * (stack.outputs() + stack.count + (stack.aggregate_first ? stack.inputs : 0)) + norms;
  }
  SageSaved saved(const Tensor& memory, int64_t rows) const {
    STD_TORCH_CHECK(memory.numel() == saved_size(rows), "what was saved is that of another batch");
    char* next = static_cast<char*>(pointer(memory));
    const auto take = [&](int64_t count) {
      void* array = next;
      next += count * static_cast<int64_t>(memory.element_size());
      return array;
    };
    SageSaved found{};
    found.rows = take(rows * stack.outputs());
    found.lengths = take(rows * stack.count);
    found.moments = take(stack.norms() * 2 * stack.layers[0].outputs);
    found.aggregated = take(0);
    return found;
  }

  // Tensors for the gradients of the layers, in turn, and where they are.
  std::pair<std::vector<Tensor>, std::vector<SageLayerGradient>> gradients() const {
    std::vector<Tensor> tensors;
    std::vector<SageLayerGradient> places;
    int64_t inputs = stack.inputs;
    for (const SageLayer& layer : layers_) {
      const auto make = [&](const void* of, std::initializer_list<int64_t> sizes) -> void* {
        if (of == nullptr) return nullptr;
        tensors.push_back(empty(sizes, type_));
        return tensors.back().data_ptr();
      };
      SageLayerGradient place{};
      place.relation = make(layer.relation, {layer.outputs, inputs});
      place.root = make(layer.root, {layer.outputs, inputs});
      place.bias = make(layer.bias, {layer.outputs});
      place.gain = make(layer.gain, {layer.outputs});
      place.shift = make(layer.shift, {layer.outputs});
      places.push_back(place);
      inputs = layer.outputs;
    }
    return {std::move(tensors), std::move(places)};
  }

 private:
  void add_layers(const std::vector<Tensor>& layers) {
    const size_t each = 1 + size_t{root_} + size_t{bias_} + (norm_ ? 2 : 0), last = norm_ ? 2 : 0;
    STD_TORCH_CHECK(!layers.empty() && (layers.size() + last) % each == 0, "layers must be complete");
    const size_t count = (layers.size() + last) / each;
    int64_t inputs = x_.size(1);
    for (size_t l = 0, at = 0; l < count; ++l) {
      const int64_t outputs = layers[at].size(0);
      const auto take = [&](bool exists, int64_t size) -> const void* {
        if (!exists) return nullptr;
        const Tensor& t = layers[at++];
        STD_TORCH_CHECK(t.scalar_type() == type_ && t.numel() == size,
                        "weights must fit each other and the features, in one dtype");
        return pointer(t);
      };
      const bool norm = norm_ && l + 1 < count;
      SageLayer layer{};
      layer.outputs = outputs;
      layer.relation = take(true, outputs * inputs);
      layer.root = take(root_, outputs * inputs);
      layer.bias = take(bias_, outputs);
      layer.gain = take(norm, outputs);
      layer.shift = take(norm, outputs);
      layers_.push_back(layer);
      inputs = outputs;
    }
    stack.is_double = type_ == ScalarType::Double;
    stack.inputs = x_.size(1);
    stack.layers = layers_.data();
    stack.count = static_cast<int64_t>(layers_.size());
  }

  void add_sparse(const std::vector<Tensor>& graphs) {
    const size_t each = graphs.size() % 3 == 0 ? 3 : 2;
    STD_TORCH_CHECK(graphs.size() == each || graphs.size() == 2 * each, "A has row pointers and columns");
    const auto matrix = [&](size_t at) {
      const OptionalTensor value = each == 3 ? OptionalTensor(graphs[at + 2]) : OptionalTensor();
      return csr(graphs[at], graphs[at + 1], value, stack.is_double);
    };
    a_ = transposed_ = matrix(0);
    if (graphs.size() > each) transposed_ = matrix(each);
    STD_TORCH_CHECK(a_.rows == x_.size(0) && transposed_.rows == a_.rows, "A must have a row for each node");
    entries_ = graphs[1].numel();
    stack.graphs = {&a_, &transposed_, nullptr, 0, 0, 0, nullptr};
  }

  void add_dense(const Tensor& a, const OptionalTensor& valid) {
    STD_TORCH_CHECK(a.dim() == 3 && a.size(1) == a.size(2) && a.scalar_type() == type_,
                    "A must be square matrices of the dtype of the features");
    const int64_t nodes = a.size(1), rows = x_.size(0), graphs = nodes ? rows / nodes : 0;
    STD_TORCH_CHECK(graphs * nodes == rows && (a.size(0) == 1 || a.size(0) == graphs || nodes == 0),
                    "A must have a row for each node");
    STD_TORCH_CHECK(!valid || (valid->scalar_type() == ScalarType::Bool && valid->numel() == rows),
                    "every node must be valid or not");
    const auto* mask = valid ? static_cast<const uint8_t*>(pointer(*valid)) : nullptr;
    entries_ = graphs * nodes * nodes;
    stack.graphs = {nullptr, nullptr, pointer(a), a.size(0) == 1 ? 0 : nodes * nodes, graphs, nodes, mask};
  }

  const Tensor& x_;
  ScalarType type_;
  bool root_, bias_, norm_;
  Csr a_{}, transposed_{};
  std::vector<SageLayer> layers_;
  int64_t entries_ = 0;
};

// -> y, running statistics after training or an empty tensor, and what the backward reads
std::tuple<Tensor, Tensor, Tensor> sage_stack(Tensor x, std::vector<Tensor> graphs, OptionalTensor valid,
                                              OptionalTensor running, std::vector<Tensor> layers, bool root,
                                              bool bias, bool mean, bool aggregate_first, bool normalize,
                                              bool training, double momentum, double eps) {
  Stack args(x, graphs, valid, running, layers, root, bias);
  SageStack& s = args.stack;
  s.mean = mean, s.aggregate_first = aggregate_first, s.normalize = normalize;
  s.training = training, s.momentum = momentum, s.eps = eps;
  const int64_t rows = args.rows();
  Tensor y = empty({x.size(0), s.outputs()}, args.type());
  Tensor updated = empty({running && training ? running->numel() : 0}, args.type());
  Tensor saved = empty({args.saved_size(rows)}, args.type());
  cpu::sage_stack_fwd(s, x.data_ptr(), args.stride(), running ? pointer(*running) : nullptr, y.data_ptr(),
                      updated.data_ptr(), args.saved(saved, rows), runtime());
  return {y, updated, saved};
}

// -> gradients of x, of the values of A, and of the layers; those that are not needed are empty
std::tuple<Tensor, Tensor, std::vector<Tensor>> sage_stack_backward(
    Tensor dy, Tensor saved, Tensor x, std::vector<Tensor> graphs, OptionalTensor valid,
    OptionalTensor running, std::vector<Tensor> layers, bool root, bool bias, bool mean, bool aggregate_first,
    bool normalize, bool training, bool need_x, bool need_value, bool need_layers) {
  Stack args(x, graphs, valid, running, layers, root, bias);
  SageStack& s = args.stack;
  s.mean = mean, s.aggregate_first = aggregate_first, s.normalize = normalize, s.training = training;
  STD_TORCH_CHECK(dy.dim() == 2 && dy.size(0) == x.size(0) && dy.size(1) == s.outputs() &&
                      dy.scalar_type() == args.type() && (dy.size(1) <= 1 || dy.stride(1) == 1),
                  "the gradient must be like the result");
  const int64_t stride = dy.size(0) <= 1 ? dy.size(1) : dy.stride(0);
  Tensor dx = need_x ? empty({x.size(0), x.size(1)}, args.type()) : empty({0}, args.type());
  Tensor dvalue = empty({need_value ? args.entries() : 0}, args.type());
  std::vector<Tensor> grads;
  std::vector<SageLayerGradient> places;
  if (need_layers) std::tie(grads, places) = args.gradients();
  const SageGradients gradients{need_x ? dx.data_ptr() : nullptr, need_value ? dvalue.data_ptr() : nullptr,
                                need_layers ? places.data() : nullptr};
  cpu::sage_stack_bwd(s, dy.data_ptr(), stride, x.data_ptr(), args.stride(), args.saved(saved, args.rows()),
                      gradients, runtime());
  return {std::move(dx), std::move(dvalue), std::move(grads)};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(hierpool_native, m) {
  m.def(
      "sage_stack(Tensor x, Tensor[] graphs, Tensor? valid, Tensor? running, Tensor[] layers, bool root, "
      "bool bias,"
      " bool mean, bool aggregate_first, bool normalize, bool training, float momentum, float eps)"
      " -> (Tensor y, Tensor updated, Tensor saved)");
  m.def(
      "sage_stack_backward(Tensor dy, Tensor saved, Tensor x, Tensor[] graphs, Tensor? valid, Tensor? "
      "running,"
      " Tensor[] layers, bool root, bool bias, bool mean, bool aggregate_first, bool normalize, bool "
      "training,"
      " bool need_x, bool need_value, bool need_layers) -> (Tensor, Tensor, Tensor[])");
}

STABLE_TORCH_LIBRARY_IMPL(hierpool_native, CPU, m) {
  m.impl("sage_stack", TORCH_BOX(&sage_stack));
  m.impl("sage_stack_backward", TORCH_BOX(&sage_stack_backward));
}

}  // namespace hierpool::torch_binding
