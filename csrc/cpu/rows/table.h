// All loops over rows, written once over the vector type, and the table of them. Included inside the namespace of one
// instruction set, after its Vec. Templates of the standard library must not be used in these files: the linker keeps
// one copy of each, and would run one instruction set's copy everywhere.

#include "cpu/rows/assignment.h"
#include "cpu/rows/asymmetric.h"
#include "cpu/rows/basic.h"
#include "cpu/rows/bce.h"
#include "cpu/rows/columns.h"
#include "cpu/rows/difference.h"
#include "cpu/rows/extreme.h"
#include "cpu/rows/gather.h"
#include "cpu/rows/gemm.h"
#include "cpu/rows/offers.h"
#include "cpu/rows/segments.h"
#include "cpu/rows/selu.h"
#include "cpu/rows/softmax.h"

template <typename T>
constexpr RowKernels<T> make_row_kernels() {
  return {
      .load = BasicRows<T>::load,
      .store = BasicRows<T>::store,
      .softmax = SoftmaxRows<T>::softmax,
      .softmax_backward = SoftmaxRows<T>::softmax_backward,
      .entropy = SoftmaxRows<T>::entropy,
      .entropy_backward = SoftmaxRows<T>::entropy_backward,
      .dot = BasicRows<T>::dot,
      .transpose = BasicRows<T>::transpose,
      .is_transpose = BasicRows<T>::is_transpose,
      .mirror = BasicRows<T>::mirror,
      .axpy = BasicRows<T>::axpy,
      .add_terms = BasicRows<T>::add_terms,
      .product_gradient = BasicRows<T>::product_gradient,
      .unit = BasicRows<T>::unit,
      .unit_backward = BasicRows<T>::unit_backward,
      .selu = SeluRows<T>::selu,
      .selu_backward = SeluRows<T>::selu_backward,
      .assignment_sums = AssignmentRows<T>::sums,
      .bce = BceRows<T>::bce,
      .bce_gradient = BceRows<T>::bce_gradient,
      .bce_log_odds = BceRows<T>::bce_log_odds,
      .asymmetric_sums = AsymmetricRows<T>::asymmetric_sums,
      .asymmetric_gradient = AsymmetricRows<T>::asymmetric_gradient,
      .column_sums = GemmRows<T>::column_sums,
      .column_squares = ColumnRows<T>::column_squares,
      .column_gradients = ColumnRows<T>::column_gradients,
      .passed_columns = ColumnRows<T>::passed_columns,
      .scale_columns = ColumnRows<T>::scale_columns,
      .combine_columns = ColumnRows<T>::combine_columns,
      .scale_rows = ColumnRows<T>::scale_rows,
      .add_rows = ColumnRows<T>::add_rows,
      .stats = BasicRows<T>::stats,
      .nonzeros = BasicRows<T>::nonzeros,
      .sparse_rows = BasicRows<T>::sparse_rows,
      .gather = GatherRows<T>::gather,
      .spmm32 = GatherRows<T>::template spmm<int32_t>,
      .spmm64 = GatherRows<T>::template spmm<int64_t>,
      .sampled32 = GatherRows<T>::template sampled<int32_t>,
      .sampled64 = GatherRows<T>::template sampled<int64_t>,
      .extreme32 = ExtremeRows<T>::template extreme<int32_t>,
      .extreme64 = ExtremeRows<T>::template extreme<int64_t>,
      .extreme_gradient32 = ExtremeRows<T>::template extreme_gradient<int32_t>,
      .extreme_gradient64 = ExtremeRows<T>::template extreme_gradient<int64_t>,
      .larger = SegmentRows<T>::larger,
      .count_equal = SegmentRows<T>::count_equal,
      .share_equal = SegmentRows<T>::share_equal,
      .distances32 = DifferenceRows<T>::template distances<int32_t>,
      .distances64 = DifferenceRows<T>::template distances<int64_t>,
      .distances_to_columns = DifferenceRows<T>::distances_to_columns,
      .variation32 = DifferenceRows<T>::template variation<int32_t>,
      .variation64 = DifferenceRows<T>::template variation<int64_t>,
      .signs32 = DifferenceRows<T>::template signs<int32_t>,
      .signs64 = DifferenceRows<T>::template signs<int64_t>,
      .best_offer = OfferRows<T>::best_offer,
      .gemm = GemmRows<T>::gemm,
      .sum_of_products = GemmRows<T>::sum_of_products,
  };
}

extern const IsaKernels kKernels;
const IsaKernels kKernels{.of_float = make_row_kernels<float>(), .of_double = make_row_kernels<double>()};
