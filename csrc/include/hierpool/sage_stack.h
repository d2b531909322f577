// Contract of stacks of GraphSAGE layers on the CPU. T is double where `is_double`, else float.
#pragma once

#include <cstdint>

#include "hierpool/csr.h"
#include "hierpool/runtime.h"

namespace hierpool {

struct SageLayer {
  int64_t outputs;
  const void* relation;  // [outputs, inputs]
  const void* root;      // [outputs, inputs], or null
  const void* bias;      // [outputs], or null
  const void* gain;      // [outputs], of the normalisation of the result over all rows, or null: none
  const void* shift;     // [outputs]
};

// Where the gradients of a layer go; null as in SageLayer.
struct SageLayerGradient {
  void *relation, *root, *bias, *gain, *shift;
};

// The adjacency of ragged graphs, or matrices [graphs, nodes, nodes] of a padded batch.
struct SageGraphs {
  const Csr* sparse;      // null: dense
  const Csr* transposed;  // read by the backward; may be `sparse`
  const void* dense;
  int64_t graph_stride;  // 0: all graphs have one matrix
  int64_t graphs, nodes;
  const uint8_t* valid;  // [graphs, nodes], or null: all nodes are valid
};

// Layer l computes, of the results X of the layer before it,
//   h = D^-1 A X relation^T + X root^T + bias,  u = h / max(|h|, 1e-12),  y = norm(relu(u)).
// The division is left out without `normalize`, and relu and norm in the last layer. norm subtracts the mean over all
// rows, divides by the deviation, and applies gain and shift. Neither values nor gradients depend on nodes that are not
// valid. G is the sum of all outputs, R the number of valid rows, H the outputs of a layer that is normalised.
struct SageStack {
  bool is_double;
  SageGraphs graphs;
  int64_t inputs;
  const SageLayer* layers;
  int64_t count;         // of layers
  bool mean;             // D = max(1, A 1); otherwise D = 1
  bool aggregate_first;  // the first layer multiplies with A before it multiplies with its weights
  bool normalize;
  bool training;  // norm takes mean and variance of the rows, otherwise those of `running`
  double momentum, eps;

  int64_t norms() const { return layers[0].gain ? count - 1 : 0; }
  int64_t outputs() const {
    int64_t sum = 0;
    for (int64_t i = 0; i < count; ++i) sum += layers[i].outputs;
    return sum;
  }
};

// What the backward reads.
struct SageSaved {
  void* rows;        // [R, G]: u
  void* lengths;     // [count, R]: of h, with normalize
  void* moments;     // [norms, 2, H]: means, and reciprocals of deviations
  void* aggregated;  // [R, inputs]: D^-1 A X, with aggregate_first
};

// What the backward writes; null where it is not needed.
struct SageGradients {
  void* x;                          // [graphs, nodes, inputs], or [R, inputs] of sparse graphs
  void* adjacency;                  // [graphs, nodes, nodes], or [entries]
  const SageLayerGradient* layers;  // [count]
};

namespace cpu {

// R
int64_t sage_stack_rows(const SageGraphs& graphs);

// y[.., G] from x[.., stride]: rows of the padded batch, or of sparse graphs. running[norms, 2, H] has means and
// variances; `updated`, null unless training, what follows from them.
void sage_stack_fwd(const SageStack& stack, const void* x, int64_t stride, const void* running, void* y,
                    void* updated, const SageSaved& saved, const Runtime& runtime);

// From dy[.., dy_stride]. Sums over rows do not depend on the number of threads.
void sage_stack_bwd(const SageStack& stack, const void* dy, int64_t dy_stride, const void* x, int64_t stride,
                    const SageSaved& saved, const SageGradients& gradients, const Runtime& runtime);

}  // namespace cpu
}  // namespace hierpool
