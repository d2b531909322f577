// The arithmetic on rows that algorithms are composed of, one table per instruction set and accumulation type.
// Everything above this table is compiled once, for the baseline instruction set.
#pragma once

#include <cstdint>

#include "cpu/split_gemm.h"
#include "hierpool/runtime.h"

// Without this g++ keeps arrays of vectors in memory instead of registers.
#if defined(__GNUC__) && !defined(__clang__)
#define HIERPOOL_UNROLL _Pragma("GCC unroll 16")
#else
#define HIERPOOL_UNROLL
#endif

namespace hierpool::cpu {

template <typename T>
struct RowStats {
  int64_t nonzeros;
  T sum;
  T sum_sq;
};

struct AssignmentSums {
  double trace;  // sum_i <s_i, m_i>
  double cut;    // sum_i degree_i <s_i, s_i>
};

struct VariationSum {
  double sum;
  int64_t entries;
};

// What a node offers to one of its neighbours.
template <typename T>
struct Offer {
  T value;       // -inf: nothing
  int32_t node;  // -1: to none
  bool tied;     // whether values are equal, so that it may be another neighbour
};

// Consecutive rows of a sparse matrix; I is int32_t or int64_t.
template <typename T, typename I>
struct SparseRows {
  int64_t count;
  const I* rowptr;  // [count + 1]: where the entries of a row begin and end in col and value
  const I* col;
  const T* value;  // null: all ones
};

// A and B of a product of inner size k: A(i, p) = a[i * a_row + p * a_col], and row-major B[k, ldb].
template <typename T>
struct Factors {
  const T* a;
  int64_t a_row, a_col;
  const T* b;
  int64_t ldb;
  int64_t k;
  Terms terms = {};
};

template <typename T>
struct RowKernels {
  // dst[i] = T(src[i])
  void (*load)(T* dst, const void* src, DType type, int64_t n);
  // dst[i] = src[i] rounded to nearest even in `type`
  void (*store)(void* dst, DType type, const T* src, int64_t n);
  // dst = softmax(src * inverse_temperature) on each of `count` rows of n elements; dst may be src. Returns the sum of
  // their entropies.
  double (*softmax)(T* dst, int64_t ld_dst, const T* src, int64_t ld_src, int64_t n, int64_t count,
                    T inverse_temperature);
  // dst = inverse_temperature p (g - <p, g>), g = dp - entropy (1 + log p) where p > 0, on each of `count` rows of n
  // elements; dst may be dp
  void (*softmax_backward)(T* dst, int64_t ld_dst, const T* p, int64_t ld_p, const T* dp, int64_t ld_dp,
                           int64_t n, int64_t count, T inverse_temperature, T entropy);
  // -sum p log p, with 0 log 0 = 0
  T (*entropy)(const T* p, int64_t n);
  // dp -= scale * (1 + log p) where p > 0
  void (*entropy_backward)(T* dp, const T* p, int64_t n, T scale);
  // <a, b>
  T (*dot)(const T* a, const T* b, int64_t n);
  // dst[columns, rows] = src[rows, ld]^T
  void (*transpose)(T* dst, const T* src, int64_t ld, int64_t rows, int64_t columns);
  // Whether a[size, size] is the transpose of b, both of `type` with rows ld apart; size is a multiple of 16. Zeros of
  // either sign are equal, NaN is not.
  bool (*is_transpose)(const void* a, const void* b, DType type, int64_t ld, int64_t size);
  // matrix[n, ld], its first n columns: what is right of the diagonal becomes the mirror image of what is left of it.
  void (*mirror)(T* matrix, int64_t ld, int64_t n);
  // y += alpha x
  void (*axpy)(T* y, T alpha, const T* x, int64_t n);
  // y += a + b + beta c + gamma d; any of a, b, c and d may be null
  void (*add_terms)(T* y, const T* a, const T* b, T beta, const T* c, T gamma, const T* d, int64_t n);
  // Gradients of a row x that was multiplied by `count` vectors, 1 or 2, from those of the products, slope[count], where
  // they are not 0, and of factor x, g, or null: sums[c] += slope[c] x, and dx = factor g + sum_c slope[c] weight[c].
  void (*product_gradient)(T* dx, T* sums, const T* x, const T* g, T factor, const T* weight, const T* slope,
                           int64_t count, int64_t n);
  // h becomes y = h / length, out = y or, with relu, max(0, y). Returns length = max(|h|, shortest).
  T (*unit)(T* h, T* out, int64_t n, T shortest, bool relu);
  // dh = (g - <g, y> y) / length with g = dout or, with relu, dout where y > 0; without <g, y> unless project.
  void (*unit_backward)(T* dh, const T* dout, const T* y, int64_t n, T length, bool project, bool relu);
  // y = selu(y)
  void (*selu)(T* y, int64_t n);
  // dx = dy times the derivative that belongs to y = selu(x); dx may be dy
  void (*selu_backward)(T* dx, const T* dy, const T* y, int64_t n);
  // volume += sum_i degree[i] s_i, and the sums of products, over `count` rows s of S and m of A S, of n elements.
  AssignmentSums (*assignment_sums)(T* volume, const T* degree, const T* s, int64_t ld_s, const T* m,
                                    int64_t ld_m, int64_t count, int64_t n);
  // Binary cross-entropy of the entries w of a matrix and q = min(p, 1), p = <s_i, s_j>:
  // sum -(w log(q + eps) + (1 - w) log(1 - q + eps)); NaN where p + eps is not positive
  T (*bce)(const T* p, const T* w, int64_t n, T eps);
  // dst = scale times its derivative with respect to p; dst may be p
  void (*bce_gradient)(T* dst, const T* p, const T* w, int64_t n, T eps, T scale);
  // dst = scale (log(1 - q + eps) - log(q + eps)), its derivative with respect to w; dst may be p
  void (*bce_log_odds)(T* dst, const T* p, int64_t n, T eps, T scale);
  // Of `count` rows of n elements, by columns, asym(t) = rho t where t >= 0, else -t, of t = s - q: norm is the sum of
  // asym, slopes that of its derivative, and row the number of the first row where t = 0, counted from `first`, if it
  // was negative and there is one.
  void (*asymmetric_sums)(T* norm, T* slopes, int64_t* row, const T* s, int64_t ld, int64_t first,
                          int64_t count, const T* q, int64_t n, T rho);
  // dst = scale times the derivative
  void (*asymmetric_gradient)(T* dst, int64_t ld_dst, const T* s, int64_t ld, int64_t count, const T* q,
                              int64_t n, T scale, T rho);
  // sums[j] += sum_i rows[i, j] over `count` rows of n elements, ld apart
  void (*column_sums)(T* sums, const T* rows, int64_t ld, int64_t count, int64_t n);
  // sums[j] = sum_i (rows[i, j] - mean[j])^2 over `count` rows of n elements, as below
  void (*column_squares)(T* sums, const T* rows, int64_t ld, const T* mean, int64_t n, int64_t count);
  // sums[j] = sum_i dy[i, j] and along[j] = sum_i dy[i, j] (max(0, rows[i, j]) - mean[j])
  void (*column_gradients)(T* sums, T* along, const T* dy, int64_t ld_dy, const T* rows, int64_t ld,
                           const T* mean, int64_t n, int64_t count);
  // out[i, j] = rows[i, j] or, with relu, max(0, rows[i, j])
  void (*passed_columns)(T* out, int64_t ld_out, const T* rows, int64_t ld, bool relu, int64_t n,
                         int64_t count);
  // out[i, j] = scale[j] (v - mean[j]) + shift[j] of that v
  void (*scale_columns)(T* out, int64_t ld_out, const T* rows, int64_t ld, const T* mean, const T* scale,
                        const T* shift, bool relu, int64_t n, int64_t count);
  // dy[i, j] = scale[j] dy[i, j] + slope[j] (max(0, rows[i, j]) - mean[j]) + shift[j]
  void (*combine_columns)(T* dy, int64_t ld_dy, const T* rows, int64_t ld, const T* mean, const T* scale,
                          const T* slope, const T* shift, int64_t n, int64_t count);
  // out[i, j] = scale[i] a[i, j]
  void (*scale_rows)(T* out, int64_t ld_out, const T* scale, const T* a, int64_t ld_a, int64_t n,
                     int64_t count);
  // y[i, j] = scale[i] y[i, j] + a[i, j] + bias[j]; without scale 1, without a or bias 0
  void (*add_rows)(T* y, int64_t ld_y, const T* scale, const T* a, int64_t ld_a, const T* bias, int64_t n,
                   int64_t count);
  // Number of non-zeros, sum and sum of squares.
  RowStats<T> (*stats)(const T* row, int64_t n);
  // Indices and values of the non-zeros, in order; both buffers hold n + 16 elements. Returns their number.
  int64_t (*nonzeros)(const T* row, int64_t n, int32_t* index, T* value);
  // The non-zeros of `count` rows of n elements as rows of a sparse matrix, whose first entry is rowptr[0], and the sum
  // of each row. col and value hold 16 elements more than there are entries.
  void (*sparse_rows)(const T* rows, int64_t ld, int64_t count, int64_t n, int32_t* rowptr, int32_t* col,
                      T* value, T* sum);
  // out[0..n) = sum_e value[e] * rows[index[e], 0..n)
  void (*gather)(T* out, int64_t n, const T* rows, int64_t ld, const int32_t* index, const T* value,
                 int64_t count);
  // out[i] = sum_e value[e] rows[col[e]] over the entries of row i, all of n elements.
  void (*spmm32)(T* out, int64_t ld_out, int64_t n, const T* rows, int64_t ld,
                 const SparseRows<T, int32_t>& a);
  void (*spmm64)(T* out, int64_t ld_out, int64_t n, const T* rows, int64_t ld,
                 const SparseRows<T, int64_t>& a);
  // out[e] = <left[i], rows[col[e]]> over the entries e of row i; out is indexed as col is.
  void (*sampled32)(T* out, int64_t n, const T* left, int64_t ld_left, const T* rows, int64_t ld,
                    const SparseRows<T, int32_t>& a);
  void (*sampled64)(T* out, int64_t n, const T* left, int64_t ld_left, const T* rows, int64_t ld,
                    const SparseRows<T, int64_t>& a);
  // out[i] = the largest or smallest value[e] rows[col[e]] over the entries of row i, all of n elements, and column[i]
  // the columns they came from, of equal ones the first; 0 and `none` without entries.
  void (*extreme32)(T* out, int32_t* column, int64_t n, const T* rows, int64_t ld, bool smallest,
                    int32_t none, const SparseRows<T, int32_t>& a);
  void (*extreme64)(T* out, int64_t* column, int64_t n, const T* rows, int64_t ld, bool smallest,
                    int64_t none, const SparseRows<T, int64_t>& a);
  // Its gradients, for the rows x[i] from `first` on, where row i of a has an entry for each extreme that x[i] may be:
  // dx[i] = sum_e value[e] dy[col[e]], and dvalue[e] = <x[i], dy[col[e]]> unless null, where column[col[e]] is i.
  void (*extreme_gradient32)(T* dx, T* dvalue, int64_t n, const T* x, int64_t ld, int64_t first, const T* dy,
                             const int32_t* column, const SparseRows<T, int32_t>& a);
  void (*extreme_gradient64)(T* dx, T* dvalue, int64_t n, const T* x, int64_t ld, int64_t first, const T* dy,
                             const int64_t* column, const SparseRows<T, int64_t>& a);
  // y = the larger of y and x, element by element; NaN counts as largest
  void (*larger)(T* y, const T* x, int64_t n);
  // count[j] += 1 where x[j] is y[j]
  void (*count_equal)(T* count, const T* x, const T* y, int64_t n);
  // dx[j] = share[j] where x[j] is y[j], else 0 times it
  void (*share_equal)(T* dx, const T* share, const T* x, const T* y, int64_t n);
  // out[e] = scale |left[i] - rows[col[e]]|_1 over the entries e of row i; out is indexed as col is.
  void (*distances32)(T* out, int64_t n, const T* left, int64_t ld_left, const T* rows, int64_t ld, T scale,
                      const SparseRows<T, int32_t>& a);
  void (*distances64)(T* out, int64_t n, const T* left, int64_t ld_left, const T* rows, int64_t ld, T scale,
                      const SparseRows<T, int64_t>& a);
  // out[j] = scale sum_k |x[k] - columns[k, j]| for j below `count` and k below n; rows of columns are ld apart.
  void (*distances_to_columns)(T* out, int64_t count, int64_t n, const T* x, const T* columns, int64_t ld,
                               T scale);
  // The sum of value[e] |left[i] - rows[col[e]]|_1 over the entries e of all rows i that are not 0, and their number.
  VariationSum (*variation32)(int64_t n, const T* left, int64_t ld_left, const T* rows, int64_t ld,
                              const SparseRows<T, int32_t>& a);
  VariationSum (*variation64)(int64_t n, const T* left, int64_t ld_left, const T* rows, int64_t ld,
                              const SparseRows<T, int64_t>& a);
  // out[i] = scale sum_e value[e] sign(left[i] - rows[col[e]]) over the entries of row i, all of n elements; with
  // `accumulate` of out[i] plus that sum.
  void (*signs32)(T* out, int64_t ld_out, int64_t n, const T* left, int64_t ld_left, const T* rows,
                  int64_t ld, T scale, bool accumulate, const SparseRows<T, int32_t>& a);
  void (*signs64)(T* out, int64_t ld_out, int64_t n, const T* left, int64_t ld_left, const T* rows,
                  int64_t ld, T scale, bool accumulate, const SparseRows<T, int64_t>& a);
  // Of n entries (col, value), without those of column `own`, the largest value above held[col]. Ties are those of
  // values with what is held and with one another.
  Offer<T> (*best_offer)(const T* held, const int32_t* col, const T* value, int64_t n, int32_t own);
  // C[m, n] (+)= A B with A(i, p) = a[i * a_row + p * a_col] and row-major B[k, ldb], C[m, ldc].
  void (*gemm)(int64_t m, int64_t n, int64_t k, const T* a, int64_t a_row, int64_t a_col, const T* b,
               int64_t ldb, T* c, int64_t ldc, bool accumulate);
  // C[m, n] = the sum of one or more products of small inner sizes: each element is summed in one register.
  void (*sum_of_products)(int64_t m, int64_t n, const Factors<T>* factors, int64_t count, T* c, int64_t ldc);
};

// The table of one instruction set.
struct IsaKernels {
  RowKernels<float> of_float;
  RowKernels<double> of_double;
};

// The instruction set must be one of supported_isas().
const IsaKernels& isa_kernels(Isa isa);

template <typename T>
const RowKernels<T>& row_kernels(Isa isa) {
  if constexpr (sizeof(T) == 8) {
    return isa_kernels(isa).of_double;
  } else {
    return isa_kernels(isa).of_float;
  }
}

}  // namespace hierpool::cpu
