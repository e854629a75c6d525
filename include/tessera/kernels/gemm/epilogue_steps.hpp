/// What gemm's epilogues are made of: `bias_per_column(b) | gelu() | residual(R)`, from left to right.
#pragma once

#include <concepts>
#include <cstdint>
#include <cstdlib>
#include <type_traits>

#include <tessera/kernels/map/args.hpp>
#include <tessera/simd/math.hpp>

namespace tessera::inline TESSERA_ABI::epilogue {

/// Where a vector of entries lies: in a row of C from a column, or where `turned` in a column from a row.
struct Place {
  Index line, first, count;
  bool turned;
};

/// `x = step(x, place)` for vectors of float or double; `check(rows, cols)` throws shape_error.
template <class S>
concept Step = requires(const S& step, Index n) {
  typename S::epilogue_step;
  step.check(n, n);
};

namespace detail {

using tessera::detail::concat;
using tessera::detail::map_load;

inline void check_length(const char* step, Index have, Index want, const char* what) {
  if (have != want)
    throw shape_error(concat("tessera: epilogue ", step, " of ", have, " entries for a product of ", want, " ", what,
                             "; expected one each"));
}

/// Entries of a vector that has one for each row, or column, of C.
template <class V, bool PerRow, class T>
TESSERA_FLAT V entries(const VectorView<const T>& v, const Place& at) {
  if (PerRow != at.turned) return V(v[at.line]);
  if (at.count == V::width && v.stride(0) == 1) return V::load(v.data() + at.first);
  return map_load<V>(v.data(), v.stride(0), at.first, at.count);
}

/// Whether two views of one shape have an entry in common; of different strides, whether they may. O(columns).
template <class R, class C>
bool meet(const MatrixView<R>& a, const MatrixView<C>& b) {
  if (!byte_range(a).overlaps(byte_range(b))) return false;
  const Index bytes = reinterpret_cast<const char*>(a.data()) - reinterpret_cast<const char*>(b.data());
  const Index size = static_cast<Index>(sizeof(R)), rs = a.row_stride(), cs = a.col_stride();
  if (sizeof(R) != sizeof(C) || bytes % size != 0 || a.strides() != b.strides()) return true;
  for (Index j = 1 - a.cols(); j < a.cols(); ++j) {
    const Index left = bytes / size - j * cs;
    if (rs == 0 ? left == 0 : left % rs == 0 && std::abs(left / rs) < a.rows()) return true;
  }
  return false;
}

/// Steps that read a matrix have `check_destination(to, holds_product)`, which throws unsupported_error if they would
/// read what is written meanwhile.
template <class E, class D>
void check_destination(const E& step, const MatrixView<D>& to, bool holds_product) {
  if constexpr (requires { step.check_destination(to, holds_product); }) step.check_destination(to, holds_product);
}

}  // namespace detail

/// First `a`, then `b`.
template <Step A, Step B>
struct Chain {
  using epilogue_step = void;
  A a;
  B b;
  void check(Index rows, Index cols) const {
    a.check(rows, cols);
    b.check(rows, cols);
  }
  template <class D>
  void check_destination(const MatrixView<D>& to, bool holds_product) const {
    detail::check_destination(a, to, holds_product);
    detail::check_destination(b, to, holds_product);
  }
  template <class V>
  TESSERA_FLAT V operator()(const V& x, const Place& at) const {
    return b(a(x, at), at);
  }
};
template <Step A, Step B>
constexpr Chain<A, B> operator|(const A& a, const B& b) {
  return {a, b};
}

/// x + b. Of std::int32_t, the first step of a product of bytes alone: added to the sums modulo 2^32, exactly.
template <class T, bool PerRow>
struct Bias {
  using epilogue_step = void;
  VectorView<const T> b;
  void check(Index rows, Index cols) const {
    detail::check_length("bias", b.extent(0), PerRow ? rows : cols, PerRow ? "rows" : "columns");
  }
  template <class V>
  TESSERA_FLAT V operator()(const V& x, const Place& at) const {
    if constexpr (std::is_integral_v<T>)
      return x;
    else
      return x + detail::entries<V, PerRow>(b, at);
  }
};
template <class T>
Bias<std::remove_const_t<T>, true> bias_per_row(VectorView<T> b) {  // (M)
  return {b};
}
template <class T>
Bias<std::remove_const_t<T>, false> bias_per_column(VectorView<T> b) {  // (N)
  return {b};
}

/// s x
template <class T>
struct Scale {
  using epilogue_step = void;
  T s;
  void check(Index, Index) const {}
  template <class V>
  TESSERA_FLAT V operator()(const V& x, const Place&) const {
    return x * V(s);
  }
};
template <class T, bool PerRow>
struct ScaleEach {
  using epilogue_step = void;
  VectorView<const T> s;
  void check(Index rows, Index cols) const {
    detail::check_length("scale", s.extent(0), PerRow ? rows : cols, PerRow ? "rows" : "columns");
  }
  template <class V>
  TESSERA_FLAT V operator()(const V& x, const Place& at) const {
    return x * detail::entries<V, PerRow>(s, at);
  }
};
template <std::floating_point T>
Scale<T> scale(T s) {
  return {s};
}
template <class T>
ScaleEach<std::remove_const_t<T>, true> scale_per_row(VectorView<T> s) {  // (M)
  return {s};
}
template <class T>
ScaleEach<std::remove_const_t<T>, false> scale_per_column(VectorView<T> s) {  // (N)
  return {s};
}

/// x + factor R
template <class T>
struct Residual {
  using epilogue_step = void;
  MatrixView<const T> R;
  T factor;
  void check(Index rows, Index cols) const {
    if (R.rows() != rows || R.cols() != cols)
      throw shape_error(detail::concat("tessera: epilogue residual (", tessera::detail::shape_text(R.rows(), R.cols()),
                                       ") of a product (", tessera::detail::shape_text(rows, cols),
                                       "); expected the same shape"));
  }
  template <class D>
  void check_destination(const MatrixView<D>& to, bool holds_product) const {
    if (!detail::meet(R, to)) return;
    const bool same = static_cast<const void*>(R.data()) == to.data() && R.strides() == to.strides();
    if (same && sizeof(T) == sizeof(D) && !holds_product) return;
    throw unsupported_error(detail::concat(
        "tessera: epilogue residual (", tessera::detail::shape_text(R.rows(), R.cols()),
        ") has entries in the destination (", tessera::detail::shape_text(to.rows(), to.cols()), ")",
        same ? ", which holds the product meanwhile; gemm's beta adds the destination itself" : " at other places"));
  }
  template <class V>
  TESSERA_FLAT V operator()(const V& x, const Place& at) const {
    const Index line = at.turned ? R.col_stride() : R.row_stride(), next = at.turned ? R.row_stride() : R.col_stride();
    return fma(V(factor), detail::map_load<V>(R.data() + at.line * line, next, at.first, at.count), x);
  }
};
/// R must not overlap C, which holds the product meanwhile (beta = 1 adds C itself): unsupported_error. It may be
/// gemm_to's destination, entry by entry.
template <class T>
Residual<std::remove_const_t<T>> residual(MatrixView<T> R, std::type_identity_t<std::remove_const_t<T>> factor = 1) {
  return {R, factor};  // (M,N)
}

/// The integer nearest to x, ties to even, plus a zero point: what a product of bytes becomes before it is stored as
/// bytes. NaN stays.
struct Requantize {
  using epilogue_step = void;
  std::int32_t zero;
  void check(Index, Index) const {}
  template <class V>
  TESSERA_FLAT V operator()(const V& x, const Place&) const {
    return nearest(x) + V(static_cast<typename V::value_type>(zero));
  }
};
inline Requantize requantize(std::int32_t zero = 0) { return {zero}; }

/// min(max(x, low), high); NaN becomes low.
template <class T>
struct Clamp {
  using epilogue_step = void;
  T low, high;
  void check(Index, Index) const {}
  template <class V>
  TESSERA_FLAT V operator()(const V& x, const Place&) const {
    return min(max(x, V(low)), V(high));
  }
};
template <std::floating_point T>
Clamp<T> clamp(T low, T high) {
  return {low, high};
}

/// f(x), f a function of vectors as `map` takes it.
template <class F>
struct Elementwise {
  using epilogue_step = void;
  F f;
  void check(Index, Index) const {}
  template <class V>
  TESSERA_FLAT V operator()(const V& x, const Place&) const {
    return f(x);
  }
};
template <class F>
Elementwise<F> elementwise(F f) {
  return {f};
}

namespace detail {
struct ReluFunction {
  template <class V>
  TESSERA_FLAT V operator()(const V& x) const {
    return select(x <= V(0), V(0), x);
  }
};
struct GeluFunction {
  template <class V>
  TESSERA_FLAT V operator()(const V& x) const {
    return gelu(x);
  }
};
struct GeluTanhFunction {
  template <class V>
  TESSERA_FLAT V operator()(const V& x) const {
    return gelu_tanh(x);
  }
};
struct SiluFunction {
  template <class V>
  TESSERA_FLAT V operator()(const V& x) const {
    return silu(x);
  }
};
}  // namespace detail

/// max(x, 0); NaN stays.
inline auto relu() { return elementwise(detail::ReluFunction()); }
/// x Φ(x), and its usual approximation by tanh. D. Hendrycks, K. Gimpel, "Gaussian Error Linear Units" (2016).
inline auto gelu() { return elementwise(detail::GeluFunction()); }
inline auto gelu_tanh() { return elementwise(detail::GeluTanhFunction()); }
/// x / (1 + e^-x)
inline auto silu() { return elementwise(detail::SiluFunction()); }

}  // namespace tessera::inline TESSERA_ABI::epilogue
