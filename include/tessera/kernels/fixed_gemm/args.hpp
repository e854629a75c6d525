/// What a product of 16-bit fixed-point matrices is given.
#pragma once

#include <cstdint>

#include <tessera/kernels/gemm/args.hpp>

namespace tessera::inline TESSERA_ABI {

/// C = alpha*A*B + beta*C, A (M,K), B (K,N): of each sum `chain` products at a time are added as int32 (modulo 2^32)
/// and these chains as f32, one after another. Sums are cut at fixed_gemm_block(K) as well, so that every kernel gives
/// the same bits where alpha is a power of two and beta 0 or 1 (otherwise within a rounding of each).
template <>
struct GemmArgs<std::int16_t, std::int16_t, float> : GemmArgs<const std::int16_t, const std::int16_t, float> {
  Index chain = 2;  // a power of two, 2 to fixed_gemm_longest_chain
};
using FixedGemmArgs = GemmArgs<std::int16_t, std::int16_t, float>;

inline constexpr Index fixed_gemm_longest_chain = 256;

namespace detail {
inline constexpr Index fixed_gemm_kc = 1024;

/// Where BlockedGemm cuts K, which the others follow.
inline Index fixed_gemm_block(Index k) {
  constexpr Index unit = fixed_gemm_longest_chain;
  const Index parts = (k + fixed_gemm_kc - 1) / fixed_gemm_kc, each = (k + parts - 1) / parts;
  return (each + unit - 1) / unit * unit;
}
}  // namespace detail

}  // namespace tessera::inline TESSERA_ABI
