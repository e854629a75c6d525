/// What a product of bit planes is given.
#pragma once

#include <cstdint>

#include <tessera/core/view.hpp>
#include <tessera/kernels/kernel.hpp>

namespace tessera::inline TESSERA_ABI {

inline constexpr Index plane_words = 8;  // a plane of a row is padded to this many 64-bit words: one cache line

/// Rows of codes of `bits` bits, a plane of all rows' bit i apart: words [row][plane][word], bit k % 64 of word k / 64
/// for entry k, zeros behind the last.
struct BitPlanesView {
  const std::uint64_t* words = nullptr;
  Index rows = 0, k = 0, bits = 0;
  Index row_words() const { return (k + 64 * plane_words - 1) / (64 * plane_words) * plane_words; }
  const std::uint64_t* plane(Index row, Index bit) const { return words + (row * bits + bit) * row_words(); }
};

/// How codes count: `unsigned_codes` as Σ b_i 2^i, `bipolar` as Σ (2 b_i - 1) 2^i, the odd numbers from -(2^n - 1) to
/// 2^n - 1, which are symmetric and have no zero.
enum class PlaneCodes { unsigned_codes, bipolar };

/// Y (M,N) = W (M,K) times the transpose of X (N,K), in integers, both of the same kind of codes. Fits int32:
/// K · 2^(p + q) < 2^31. The rows of a RowRange are W's.
struct BitplaneArgs : KernelArgs {
  BitPlanesView w, x;
  PlaneCodes codes = PlaneCodes::unsigned_codes;
  MatrixView<std::int32_t> y;  // (M,N)
};

namespace detail {
/// The entry of Y for Σ 2^(s + t) popcount: of w & x, or of w ^ x.
inline std::int32_t plane_product(const BitplaneArgs& a, std::int64_t sum) {
  if (a.codes == PlaneCodes::unsigned_codes) return static_cast<std::int32_t>(sum);
  const std::int64_t scales = ((std::int64_t{1} << a.w.bits) - 1) * ((std::int64_t{1} << a.x.bits) - 1);
  return static_cast<std::int32_t>(a.w.k * scales - 2 * sum);
}
}  // namespace detail

}  // namespace tessera::inline TESSERA_ABI
