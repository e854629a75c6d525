/// What a product with sums of sign planes of low-rank magnitudes is given.
#pragma once

#include <cstdint>

#include <tessera/core/view.hpp>
#include <tessera/kernels/kernel.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {
struct ByteSigns {
  alignas(32) float of[256][8];
  constexpr ByteSigns() : of() {
    for (int byte = 0; byte < 256; ++byte)
      for (int b = 0; b < 8; ++b) of[byte][b] = ((byte >> b) & 1) != 0 ? -1.0f : 1.0f;
  }
};
/// What each bit of a byte of signs multiplies by: a byte is eight factors in the first-level cache.
inline constexpr ByteSigns byte_signs;
}  // namespace detail

/// W (M,K) = Σ_p S_p ∘ U_p V_pᵀ with signs S_p. Columns are padded to whole bytes of signs, 8 each.
///   n > 0: Y (M,n) = alpha W X + beta Y; beta == 0 never reads Y. With z_{p,r} = V_p(:, r) ∘ x,
///     y_i = Σ_p Σ_r U_p(i, r) Σ_j S_p(i, j) z_{p,r}[j]. `rows` is (n, planes·rank, 8·bytes): z, zeros in the padding.
///   n == 0: row i of W into `out` (M, 8·bytes). `rows` is (planes·rank, 8·bytes): V_pᵀ.
struct SignPlanesArgs : KernelArgs {
  struct Plane {
    const std::uint8_t* signs;  // (M, bytes): bit j % 8 of byte j / 8 is set where negative
    const float* u;             // (M, rank)
  };
  Index bytes = 0, rank = 0, planes = 0, n = 0;
  const Plane* plane = nullptr;
  const float* rows = nullptr;
  float alpha = 1, beta = 0;
  MatrixView<float> Y;
  float* out = nullptr;
};

}  // namespace tessera::inline TESSERA_ABI
