/// Element-wise parts of slot attention.
#pragma once

#include <algorithm>

#include <tessera/core/context.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kernels/map/map.hpp>

namespace tessera::inline TESSERA_ABI::nn::detail {

struct AtLeast {
  template <class V>
  TESSERA_INLINE void operator()(V& y, const V& x) const {
    y = max(x, y);
  }
};
/// y = e^(y - most), sum += y.
struct ShiftedExp {
  template <class V>
  TESSERA_INLINE void operator()(V& y, V& sum, const V& most) const {
    y = exp(y - most);
    sum = sum + y;
  }
};
struct Divide {
  template <class V>
  TESSERA_INLINE void operator()(V& y, const V& x) const {
    y = y / x;
  }
};
/// da -= shift, sum += a da.
template <class T>
struct ShiftedDot {
  T shift;
  template <class V>
  TESSERA_INLINE void operator()(V& da, V& sum, const V& a) const {
    da = da - V(shift);
    sum = fma(a, da, sum);
  }
};
/// da becomes the logits' gradient.
struct SoftmaxColumn {
  template <class V>
  TESSERA_INLINE void operator()(V& da, const V& a, const V& sum) const {
    da = a * (da - sum);
  }
};
struct AddSigmoid {
  template <class V>
  TESSERA_INLINE void operator()(V& y, const V& x) const {
    y = sigmoid(y + x);
  }
};
/// The candidate y = tanh(y + r x), of which h' = y + z (h - y).
struct Candidate {
  template <class V>
  TESSERA_INLINE void operator()(V& y, V& next, const V& r, const V& x, const V& z, const V& h) const {
    y = tanh(fma(r, x, y));
    next = fma(z, h - y, y);
  }
};
/// z and the candidate y become the gradients before σ and tanh; dh is what reaches h past the gates.
struct UpdateBackward {
  template <class V>
  TESSERA_INLINE void operator()(V& z, V& y, V& dh, const V& dnext, const V& h) const {
    const V one(typename V::value_type(1));
    dh = dnext * z;
    const V dz = dnext * (h - y) * z * (one - z), dy = dnext * (one - z) * fnma(y, y, one);
    z = dz;
    y = dy;
  }
};
/// r and x of tanh(… + r x) become gradients, r's before σ.
struct ResetBackward {
  template <class V>
  TESSERA_INLINE void operator()(V& r, V& x, const V& dy) const {
    const V dx = dy * r;
    r = dx * x * (V(typename V::value_type(1)) - r);
    x = dx;
  }
};
struct ClampNegative {
  template <class V>
  TESSERA_INLINE void operator()(V& y) const {
    const V zero(typename V::value_type(0));
    y = select(y < zero, zero, y);
  }
};
/// dy where y > 0.
struct PassPositive {
  template <class V>
  TESSERA_INLINE void operator()(V& dy, const V& y) const {
    const V zero(typename V::value_type(0));
    dy = select(zero < y, dy, zero);
  }
};

/// body(worker, first, count, sum, most) for pieces of the columns, with two vectors of scratch, the first of zeros.
template <class T, class Body>
void for_each_column_block(Context& ctx, Index columns, Body&& body) {
  for_each_chunk(ctx, columns, 2048, [&](Context& worker, Index begin, Index end) {
    Workspace::Scope scope(worker.workspace);
    const VectorView<T> sum(scope.take<T>(end - begin), end - begin), most(scope.take<T>(end - begin), end - begin);
    std::fill_n(sum.data(), end - begin, T(0));
    body(worker, begin, end - begin, sum, most);
  });
}
/// Each column of A (S,N) becomes its softmax: vectors go along the inputs, so that few slots cost no tails.
template <class T>
void softmax_over_slots(Context& ctx, MatrixView<T> A) {
  for_each_column_block<T>(ctx, A.cols(),
                           [&](Context& worker, Index at, Index n, VectorView<T> sum, VectorView<T> most) {
                             const auto a = A.slice(1, at, n);
                             std::copy_n(&a(0, 0), n, most.data());
                             for (Index s = 1; s < a.rows(); ++s)
                               map(worker, AtLeast{}, most, VectorView<const T>(a.row(s)));
                             for (Index s = 0; s < a.rows(); ++s)
                               map(worker, ShiftedExp{}, a.row(s), sum, VectorView<const T>(most));
                             for (Index s = 0; s < a.rows(); ++s)
                               map(worker, Divide{}, a.row(s), VectorView<const T>(sum));
                           });
}
/// dA (S,N), each row less shift (S), becomes the gradient of the softmaxes' arguments.
template <class T>
void softmax_over_slots_backward(Context& ctx, MatrixView<const T> A, const T* shift, MatrixView<T> dA) {
  for_each_column_block<T>(ctx, A.cols(), [&](Context& worker, Index at, Index n, VectorView<T> sum, VectorView<T>) {
    const auto a = A.slice(1, at, n);
    const auto da = dA.slice(1, at, n);
    for (Index s = 0; s < a.rows(); ++s) map(worker, ShiftedDot<T>{shift[s]}, da.row(s), sum, a.row(s));
    for (Index s = 0; s < a.rows(); ++s) map(worker, SoftmaxColumn{}, da.row(s), a.row(s), VectorView<const T>(sum));
  });
}

}  // namespace tessera::inline TESSERA_ABI::nn::detail
