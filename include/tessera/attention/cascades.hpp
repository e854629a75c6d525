/// Attention as a cascade of einsums with 3, 2 and 1 passes over the keys, described and carried out as described.
/// N. Nayak et al., "FuseMax: Leveraging Extended Einsums to Optimize Attention Accelerator Design" (MICRO 2024), §IV.
/// For reading and counting, one query at a time; the fast one-pass attention is attention().
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <type_traits>

#include <tessera/attention/detail/check.hpp>
#include <tessera/attention/einsum_cascade.hpp>
#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kernels/attention/attention.hpp>
#include <tessera/simd/math.hpp>

namespace tessera::inline TESSERA_ABI {

/// The cascade with so many passes over the keys m = (m1, m0), of queries p, with channels e of keys and f of values:
/// 3: softmax relative to the largest score, divided weight by weight. 2: each block relative to its own largest,
/// corrected when the largest of all is known. 1: a running maximum by which sums so far are corrected. The last two
/// divide the sums once at the end instead of every weight.
template <int Passes>
requires(Passes >= 1 && Passes <= 3) EinsumCascade attention_cascade() {
  if constexpr (Passes == 3)
    return {"m",
            {"QK[m,p] = sum Q[e,p] K[e,m]",     //
             "GM[p] = max QK[m,p]",             //
             "SN[m,p] = exp(QK[m,p] - GM[p])",  //
             "SD[p] = sum SN[m,p]",             //
             "A[m,p] = SN[m,p] / SD[p]",        //
             "AV[f,p] = sum A[m,p] V[f,m]"}};
  if constexpr (Passes == 2)
    return {"m",
            {"QK[m1,m0,p] = sum Q[e,p] K[e,m1,m0]",         //
             "LM[m1,p] = max QK[m1,m0,p]",                  //
             "SLN[m1,m0,p] = exp(QK[m1,m0,p] - LM[m1,p])",  //
             "SLD[m1,p] = sum SLN[m1,m0,p]",                //
             "GM[p] = max LM[m1,p]",                        //
             "PRM[m1,p] = exp(LM[m1,p] - GM[p])",           //
             "SN[m1,m0,p] = SLN[m1,m0,p] PRM[m1,p]",        //
             "SD[p] = sum SLD[m1,p] PRM[m1,p]",             //
             "SNV[f,p] = sum SN[m1,m0,p] V[f,m1,m0]",       //
             "AV[f,p] = SNV[f,p] / SD[p]"}};
  return {"m",
          {"QK[m1,m0,p] = sum Q[e,p] K[e,m1,m0]",                 //
           "LM[m1,p] = max QK[m1,m0,p]",                          //
           "RM[m1+1,p] = max(RM[m1,p], LM[m1,p])",                //
           "PRM[m1,p] = exp(RM[m1,p] - RM[m1+1,p])",              //
           "SLN[m1,m0,p] = exp(QK[m1,m0,p] - RM[m1+1,p])",        //
           "RD[m1+1,p] = RD[m1,p] PRM[m1,p] + sum SLN[m1,m0,p]",  //
           "RNV[m1+1,f,p] = RNV[m1,f,p] PRM[m1,p] + sum SLN[m1,m0,p] V[f,m1,m0]", "AV[f,p] = RNV[M1,f,p] / RD[M1,p]"}};
}

/// e^x by multiply-adds alone, but for the shift that puts an integer where the exponent is; below 2 ulp for any x.
template <class T>
requires std::floating_point<T> T exp_by_multiply_adds(T x) {
  using E = simd::detail::ExpRange<T>;
  using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  constexpr int digits = std::numeric_limits<T>::digits - 1;
  constexpr T bias = static_cast<T>(std::numeric_limits<T>::max_exponent - 1);
  constexpr T round = static_cast<T>(Bits{3} << (digits - 1));  // adding it leaves an integer in the low bits
  if (std::isnan(x)) return x;
  const T t = std::clamp(x, E::zero, E::infinite);
  const T n = std::fma(t, E::log2e, round) - round;
  const T r = std::fma(-n, E::low, std::fma(-n, E::high, t));
  const T p = std::fma(r * r, simd::detail::exp_tail(simd::Vec<T, simd::Scalar>(r)).v, r) + T(1);
  const T half = std::fma(n, T(0.5), round) - round;  // 2^n may overflow where the result does not
  const auto power = [](T k) { return std::bit_cast<T>(std::bit_cast<Bits>(k + (round + bias)) << digits); };
  return p * power(half) * power(n - half);
}

/// Counted while one query was answered, the last one of the last head.
struct CascadeCounts {
  Index passes = 0;  // loops over the keys
  Index held = 0;    // words of the intermediate tensors
  Index divisions = 0;
};

namespace detail {

/// One query over m keys. Every einsum is a function of a block [j, j + count) of keys; a pass is one loop in which
/// they take their turns, whatever their number.
template <class T, int Passes>
class CascadeRun {
 public:
  CascadeRun(Workspace::Scope& scope, const EinsumCascade& cascade, const T* q, const View<const T, 2>& K,
             const View<const T, 2>& V, Index m, Index block, T scale)
      : scope_(scope), cascade_(cascade), q_(q), K_(K), V_(V), m_(m), block_(Passes == 3 ? 1 : block), scale_(scale) {
    extents_ = {{"m", m}, {"m1", (m + block_ - 1) / block_}, {"m0", block_}, {"p", 1}, {"f", V.cols()}};
  }

  CascadeCounts operator()(T* out) {
    if (m_ == 0) {
      std::fill_n(out, V_.cols(), T(0));
      return counts_;
    }
    T* const QK = held("QK");
    if constexpr (Passes == 3) {
      T* const GM = held("GM");
      T* const SN = held("SN");
      T* const SD = held("SD");
      T* const A = held("A");
      *GM = -infinity;
      *SD = 0;
      std::fill_n(out, V_.cols(), T(0));
      pass([&](Index j, Index) { QK[j] = score(j); }, [&](Index j, Index) { *GM = std::max(*GM, QK[j]); });
      pass([&](Index j, Index) { SN[j] = weight(QK[j], *GM); }, [&](Index j, Index) { *SD += SN[j]; });
      pass([&](Index j, Index) { *A = divide(SN[j], *SD); }, [&](Index j, Index) { add_values(A, j, 1, out); });
    } else if constexpr (Passes == 2) {
      T* const LM = held("LM");
      T* const SLN = held("SLN");
      T* const SLD = held("SLD");
      T* const GM = held("GM");
      T* const PRM = held("PRM");
      T* const SN = held("SN");
      T* const SD = held("SD");
      T* const SNV = held("SNV");
      *GM = -infinity;
      *SD = 0;
      std::fill_n(SNV, V_.cols(), T(0));
      pass(
          [&](Index j, Index count) {
            for (Index c = 0; c < count; ++c) QK[c] = score(j + c);
          },
          [&](Index j, Index count) { LM[j / block_] = *std::max_element(QK, QK + count); },
          [&](Index j, Index count) {
            for (Index c = 0; c < count; ++c) SLN[j + c] = weight(QK[c], LM[j / block_]);
          },
          [&](Index j, Index count) { SLD[j / block_] = sum(SLN + j, count); },
          [&](Index j, Index) { *GM = std::max(*GM, LM[j / block_]); });
      pass([&](Index j, Index) { *PRM = weight(LM[j / block_], *GM); },
           [&](Index j, Index count) {
             for (Index c = 0; c < count; ++c) SN[c] = SLN[j + c] * *PRM;
           },
           [&](Index j, Index) { *SD += SLD[j / block_] * *PRM; },
           [&](Index j, Index count) { add_values(SN, j, count, SNV); });
      for (Index f = 0; f < V_.cols(); ++f) out[f] = divide(SNV[f], *SD);
    } else {
      T* const LM = held("LM");
      T* const RM = held("RM");
      T* const PRM = held("PRM");
      T* const SLN = held("SLN");
      T* const RD = held("RD");
      T* const RNV = held("RNV");
      *RM = -infinity;
      *RD = 0;
      std::fill_n(RNV, V_.cols(), T(0));
      pass(
          [&](Index j, Index count) {
            for (Index c = 0; c < count; ++c) QK[c] = score(j + c);
          },
          [&](Index, Index count) { *LM = *std::max_element(QK, QK + count); },
          [&](Index, Index) {
            const T before = *RM;
            *RM = std::max(before, *LM);
            *PRM = weight(before, *RM);
          },
          [&](Index, Index count) {
            for (Index c = 0; c < count; ++c) SLN[c] = weight(QK[c], *RM);
          },
          [&](Index, Index count) { *RD = *RD * *PRM + sum(SLN, count); },
          [&](Index j, Index count) {
            for (Index f = 0; f < V_.cols(); ++f) RNV[f] *= *PRM;
            add_values(SLN, j, count, RNV);
          });
      for (Index f = 0; f < V_.cols(); ++f) out[f] = divide(RNV[f], *RD);
    }
    return counts_;
  }

 private:
  static constexpr T infinity = std::numeric_limits<T>::infinity();

  /// One loop nest of any number of einsums.
  template <class... E>
  void pass(E&&... einsums) {
    ++counts_.passes;
    for (Index j = 0; j < m_; j += block_) (einsums(j, std::min(block_, m_ - j)), ...);
  }
  T* held(const char* tensor) {
    const Index words = cascade_.held_words(tensor, extents_);
    counts_.held += words;
    return scope_.take<T>(words);
  }
  T score(Index j) const {
    T dot = 0;
    for (Index c = 0; c < K_.cols(); ++c) dot += q_[c] * K_(j, c);
    return dot * scale_;
  }
  static T weight(T score, T top) { return exp_by_multiply_adds<T>(top == -infinity ? -infinity : score - top); }
  static T sum(const T* x, Index count) {
    T total = 0;
    for (Index c = 0; c < count; ++c) total += x[c];
    return total;
  }
  void add_values(const T* weights, Index j, Index count, T* to) const {
    for (Index c = 0; c < count; ++c)
      for (Index f = 0; f < V_.cols(); ++f) to[f] += weights[c] * V_(j + c, f);
  }
  T divide(T x, T by) {
    ++counts_.divisions;
    return by == 0 ? T(0) : x / by;
  }

  Workspace::Scope& scope_;
  const EinsumCascade& cascade_;
  std::map<std::string, Index> extents_;
  const T* q_;
  View<const T, 2> K_, V_;
  Index m_, block_;
  T scale_;
  CascadeCounts counts_;
};

}  // namespace detail

/// Attention by the cascade with so many passes, blocks of `block` keys. See attention() for shapes, strides and
/// errors; the three agree up to rounding. O(heads·n·m·d) flops; O(m), O(m) and O(block + d) words a query, what
/// held_words of the description says; the same bits for any number of threads.
template <int Passes, class T>
requires std::floating_point<T> CascadeCounts
attention_einsum_cascade(Context& ctx, std::type_identity_t<View<const T, 3>> Q,  // (heads, n, d)
                         std::type_identity_t<View<const T, 3>> K,                // (kv_heads, m, d)
                         std::type_identity_t<View<const T, 3>> V,                // (kv_heads, m, d)
                         View<T, 3> out,                                          // (heads, n, d)
                         AttentionOptions options = {}, Index block = 64) {
  const EinsumCascade cascade = attention_cascade<Passes>();
  detail::check_exact<T>("attention_einsum_cascade", Q, K, V, out);
  if (block < 1) throw shape_error(detail::concat("tessera: attention_einsum_cascade: blocks of ", block, " keys"));
  const Index heads = Q.extent(0), n = Q.extent(1), d = Q.extent(2), m = K.extent(1);
  const T scale =
      static_cast<T>(options.scale ? *options.scale : 1 / std::sqrt(static_cast<double>(std::max<Index>(d, 1))));
  CascadeCounts counts;
  for_each_chunk(ctx, heads * n, 1, [&](Context& worker, Index r, Index) {
    const Index h = r / n, i = r % n, kv = h / (heads / K.extent(0));
    const Index seen = options.causal ? std::clamp<Index>(m - n + i + 1, 0, m) : m;
    Workspace::Scope scope(worker.workspace);
    detail::CascadeRun<T, Passes> run(scope, cascade, &Q(h, i, 0), K[kv], V[kv], seen, block, scale);
    const CascadeCounts one = run(&out(h, i, 0));
    if (r == heads * n - 1) counts = one;
  });
  return counts;
}

}  // namespace tessera::inline TESSERA_ABI
