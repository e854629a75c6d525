/// Elementary functions of vectors, one source for all lanes and for float and double. The bounds are the largest
/// errors seen against a wider type by tests/simd/math_test.cpp, in units in the last place: hot lanes | portable
/// without FMA. All take any argument: NaN gives NaN, infinities their limits, subnormal arguments and results are
/// right. Polynomials are Chebyshev fits of our own (60 digits, then rounded). Scalar vectors call <cmath>.
#pragma once

#include <cmath>
#include <limits>
#include <type_traits>

#include <tessera/simd/pack.hpp>

namespace tessera::inline TESSERA_ABI::simd {

namespace detail {

template <class T>
inline constexpr bool is_f32 = std::is_same_v<T, float>;

/// c0·x^n + c1·x^(n-1) + … + cn
template <class V, class... C>
TESSERA_FLAT V horner(const V& x, typename V::value_type first, C... rest) {
  V sum(first);
  ((sum = fma(sum, x, V(rest))), ...);
  return sum;
}

/// (exp(r) - 1 - r) / r² for |r| <= 0.35
template <class V>
TESSERA_FLAT V exp_tail(const V& r) {
  if constexpr (is_f32<typename V::value_type>)
    return horner(r, 0.00139262508f, 0.00836323288f, 0.0416665542f, 0.166665767f, 0.5f);
  else
    return horner(r, 2.09147553258932022e-9, 2.51053127296221018e-8, 2.75572734787185805e-7, 2.75572551700008874e-6,
                  0.0000248015873256774619, 0.000198412698750022788, 0.00138888888888837112, 0.00833333333332608312,
                  0.0416666666666666698, 0.16666666666666671, 0.5);
}

template <class T>
struct ExpRange {  // exp is 0 below the first and inf above the second; ln 2 = high + low, high times n exact
  static constexpr T zero = is_f32<T> ? T(-104) : T(-746);
  static constexpr T infinite = is_f32<T> ? T(89) : T(710);
  static constexpr T log2e = T(1.442695040888963407);
  static constexpr T high = is_f32<T> ? T(0x1.62e4p-1) : T(0x1.62e42feep-1);
  static constexpr T low = is_f32<T> ? T(1.42860682030941723e-6) : T(1.90821492927058770e-10);
};

/// exp(x + low), |low| < 0.06: keeps what rounding x would lose.
template <class V>
TESSERA_FLAT V exp_sum(const V& x, const V& low) {
  using T = typename V::value_type;
  using E = ExpRange<T>;
  const V t = min(V(E::infinite), max(V(E::zero), x));
  const V n = nearest(t * V(E::log2e));
  const V r = fnma(n, V(E::low), fnma(n, V(E::high), t)) + low;
  return ldexp(fma(r * r, exp_tail(r), r) + V(T(1)), n);
}

/// exp(-scale·x²) to full relative precision for 0 <= x < 64: squares a head of x that has room for its square.
template <class V>
TESSERA_FLAT V exp_minus_square(const V& x, typename V::value_type scale) {
  using T = typename V::value_type;
  const V magic(is_f32<T> ? T(0x1.8p15) : T(0x1.8p32));
  const V head = (x + magic) - magic;
  return exp_sum(-(head * head * V(scale)), -((x - head) * (x + head) * V(scale)));
}

/// exp(t²)·erfc(t) for 0 <= t <= 27.5 (float: 10.2), a polynomial of (1 - ct)/(1 + ct) over 1 + ct.
template <class V>
TESSERA_FLAT V erfcx(const V& t) {
  using T = typename V::value_type;
  const V ct = t * V(T(0.35));
  const V inverse = V(T(1)) / (V(T(1)) + ct);
  const V u = (V(T(1)) - ct) * inverse;
  if constexpr (is_f32<T>)
    return inverse * horner(u, 7.22632735e-5f, 5.86223757e-5f, -0.000848043527f, -0.00159531346f, 0.00457794229f,
                            0.0318433107f, 0.0950969848f, 0.194224286f, 0.302357195f, 0.374212757f);
  else
    return inverse *
           horner(u, 3.05618756875528928e-10, -1.2520322239792634e-9, -1.66172655023242225e-10, 8.87531501448882082e-9,
                  -1.06693455645572769e-8, -3.41088511875134094e-8, 8.95637470232990462e-8, 8.60184796745075376e-8,
                  -5.31183239003402639e-7, -6.51713666050251724e-8, 2.94072004552265663e-6, -8.94526195810295358e-7,
                  -0.0000173307234190368352, 5.88607478268355839e-6, 0.00011697271754696945, 0.0000270311583346608877,
                  -0.000871721839468339747, -0.00157513826073599277, 0.00458261616639414551, 0.031838947463615866,
                  0.0950965902529506708, 0.194224597425203248, 0.302357207735850793, 0.37421275342294139);
}

}  // namespace detail

/// e^x. f32 1.05 ulp, f64 0.98.
template <class T, class Lane>
TESSERA_FLAT Vec<T, Lane> exp(const Vec<T, Lane>& x) {
  using V = Vec<T, Lane>;
  using E = detail::ExpRange<T>;
  const V t = min(V(E::infinite), max(V(E::zero), x));
  const V n = nearest(t * V(E::log2e));
  const V r = fnma(n, V(E::low), fnma(n, V(E::high), t));
  return ldexp(fma(r * r, detail::exp_tail(r), r) + V(T(1)), n);
}

/// Natural logarithm; -inf at 0, NaN below. f32 0.83 ulp, f64 0.78.
template <class T, class Lane>
TESSERA_FLAT Vec<T, Lane> log(const Vec<T, Lane>& x) {
  using V = Vec<T, Lane>;
  using E = detail::ExpRange<T>;
  constexpr T infinity = std::numeric_limits<T>::infinity();
  const V m0 = mantissa(x), e0 = exponent(x);
  const auto large = m0 > V(T(1.41421356237309505));
  const V f = select(large, m0 * V(T(0.5)), m0) - V(T(1));
  const V e = select(large, e0 + V(T(1)), e0);
  const V s = f / (V(T(2)) + f), z = s * s, half = f * f * V(T(0.5));  // log(1+f) = f - f²/2 + s(f²/2 + z·R(z))
  V R;
  if constexpr (detail::is_f32<T>)
    R = detail::horner(z, 0.233316145f, 0.285507786f, 0.400001222f, 0.666666666f);
  else
    R = detail::horner(z, 0.14617807153417325, 0.153316117220550079, 0.181828924325368712, 0.222222110893794962,
                       0.285714286262538376, 0.399999999998988905, 0.666666666666666971);
  const V y = fma(e, V(E::high), f - (half - fma(s, fma(z, R, half), e * V(E::low))));
  const V special = select(x == V(infinity), x, V(std::numeric_limits<T>::quiet_NaN()));
  return select((x > V(T(0))) & (x < V(infinity)), y, select(x == V(T(0)), V(-infinity), special));
}

/// f32 2.4 ulp, f64 2.6.
template <class T, class Lane>
TESSERA_FLAT Vec<T, Lane> tanh(const Vec<T, Lane>& x) {
  using V = Vec<T, Lane>;
  using E = detail::ExpRange<T>;
  const V a = min(V(detail::is_f32<T> ? T(9.5) : T(20)), abs(x));  // 1 from there on
  const V t = a + a;
  const V n = nearest(t * V(E::log2e));
  const V r = fnma(n, V(E::low), fnma(n, V(E::high), t));
  const V power = ldexp(V(T(1)), n);
  const V m = fma(fma(r * r, detail::exp_tail(r), r), power, power - V(T(1)));  // exp(2a) - 1
  return copysign(m / (m + V(T(2))), x);
}

/// 1 / (1 + e^-x). f32 2.4 ulp, f64 2.3.
template <class T, class Lane>
TESSERA_FLAT Vec<T, Lane> sigmoid(const Vec<T, Lane>& x) {
  using V = Vec<T, Lane>;
  const V e = exp(-abs(x));
  return select(x >= V(T(0)), V(T(1)), e) / (V(T(1)) + e);
}

/// x·sigmoid(x); -0 at -inf. f32 3.01 ulp, f64 2.8, where sigmoid(x) is normal (above -87, -708).
template <class T, class Lane>
TESSERA_FLAT Vec<T, Lane> silu(const Vec<T, Lane>& x) {
  using V = Vec<T, Lane>;
  return max(V(detail::is_f32<T> ? T(-120) : T(-760)), x) * sigmoid(x);
}

/// Error function. f32 1.25 ulp, f64 1.35.
template <class T, class Lane>
TESSERA_FLAT Vec<T, Lane> erf(const Vec<T, Lane>& x) {
  using V = Vec<T, Lane>;
  const V a = min(V(detail::is_f32<T> ? T(5) : T(7)), abs(x));  // 1 from there on
  const V w = a * a;
  V P;
  if constexpr (detail::is_f32<T>)
    P = detail::horner(w, 7.87587506e-5f, -0.000801686429f, 0.00518908742f, -0.026854212f, 0.112835947f, -0.376126267f,
                       0.128379166f);
  else
    P = detail::horner(w, 5.9571761477489114e-11, -1.13728488567916737e-9, 1.46597752740474358e-8,
                       -1.6350312701054695e-7, 1.6461000484121368e-6, -0.0000149255952668311816,
                       0.000120553311116427109, -0.000854832698083378991, 0.00522397762481801447,
                       -0.0268661706450767932, 0.112837916709548787, -0.376126389031837481, 0.128379167095512574);
  const V tail = V(T(1)) - detail::exp_minus_square(a, T(1)) * detail::erfcx(a);
  return copysign(select(a < V(T(1)), fma(a, P, a), tail), x);
}

/// x·Φ(x), Φ the normal distribution, exact form; -0 at -inf. f32 5.9 ulp, f64 5.4 above -12.5; below, where Φ is
/// subnormal, 9 and 20. D. Hendrycks, K. Gimpel, "Gaussian Error Linear Units" (2016).
template <class T, class Lane>
TESSERA_FLAT Vec<T, Lane> gelu(const Vec<T, Lane>& x) {
  using V = Vec<T, Lane>;
  constexpr T end = detail::is_f32<T> ? T(14.4) : T(38.8);  // Φ(-end) = 0
  const V a = min(V(end), abs(x));
  const V tail = detail::exp_minus_square(a, T(0.5)) * (V(T(0.5)) * detail::erfcx(a * V(T(0.707106781186547524))));
  return max(V(-end), x) * select(x < V(T(0)), tail, V(T(1)) - tail);
}

/// x/2·(1 + tanh(√(2/π)(x + 0.044715x³))), the approximation of the same paper. f32 35 ulp, f64 34 above -5; below, the
/// error of the cubic times its size.
template <class T, class Lane>
TESSERA_FLAT Vec<T, Lane> gelu_tanh(const Vec<T, Lane>& x) {
  using V = Vec<T, Lane>;
  const V u = x * fma(x * x, V(T(0.0713548162726002527)), V(T(1.59576912160573072)));
  return max(V(T(-100)), x) * sigmoid(u);
}

template <class T>
inline Vec<T, Scalar> exp(const Vec<T, Scalar>& x) {
  return std::exp(x.v);
}
template <class T>
inline Vec<T, Scalar> log(const Vec<T, Scalar>& x) {
  return std::log(x.v);
}
template <class T>
inline Vec<T, Scalar> tanh(const Vec<T, Scalar>& x) {
  return std::tanh(x.v);
}
template <class T>
inline Vec<T, Scalar> sigmoid(const Vec<T, Scalar>& x) {
  const T e = std::exp(-std::fabs(x.v));
  return (x.v >= T(0) ? T(1) : e) / (T(1) + e);
}
template <class T>
inline Vec<T, Scalar> erf(const Vec<T, Scalar>& x) {
  return std::erf(x.v);
}
template <class T>
inline Vec<T, Scalar> gelu(const Vec<T, Scalar>& x) {
  if (x.v == -std::numeric_limits<T>::infinity()) return -T(0);
  return x.v * (T(0.5) * std::erfc(x.v * T(-0.707106781186547524)));
}

}  // namespace tessera::inline TESSERA_ABI::simd
