/// N of every M weights along the input, by masks that become hard little by little.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>

#include <tessera/compress/mask.hpp>

namespace tessera::inline TESSERA_ABI {

/// In each row, of each `m` columns the `n` of largest magnitude (of equal ones the first; of a shorter last group at
/// most `n`). O(MN). Throws unsupported_error unless 0 <= n <= m and m >= 1.
template <std::floating_point T>
Mask nm_mask(MatrixView<const T> W, Index n, Index m) {
  if (m < 1 || n < 0 || n > m)
    throw unsupported_error(detail::concat("tessera: nm_mask of ", n, ":", m, "; expected 0 to m of m >= 1"));
  Mask mask(W.rows(), W.cols(), false);
  for (Index i = 0; i < W.rows(); ++i)
    for (Index j = 0; j < W.cols(); j += m) {
      const Index count = std::min(m, W.cols() - j);
      for (const Index p : detail::largest(detail::all_places(i * W.cols() + j, count), std::min(n, count),
                                           [&](Index q) { return std::abs(W(i, q % W.cols())); }))
        mask.set(p, true);
    }
  return mask;
}

/// Ŵ = W ∘ (mask + β(1 - mask)): β = 1 is dense, 0 the hard mask. The gradient of W is the same product of dŴ, so that
/// pruned weights learn less and less. A. Bambhaniya et al., "Progressive Gradient Flow for Robust N:M Sparsity
/// Training in Transformers" (2024), §4. `out` may be W. Throws shape_error.
template <std::floating_point T>
void decayed_mask(const Mask& mask, double beta, MatrixView<const T> W, MatrixView<T> out) {
  detail::check_mask("decayed_mask", W.rows(), W.cols(), mask);
  detail::check_mask("decayed_mask's result", out.rows(), out.cols(), mask);
  for (Index i = 0; i < W.rows(); ++i)
    for (Index j = 0; j < W.cols(); ++j)
      out(i, j) = mask(i, j) ? W(i, j) : beta == 0 ? T(0) : static_cast<T>(beta) * W(i, j);
}

/// β by the step: 1 before `begin`, then falling to 0 at `end`, linearly or as exp(-rate·(step - begin)) until then.
struct MaskDecay {
  Index begin = 0, end = 1;
  double rate = 0;  // over 0: exponential

  double operator()(Index step) const {
    if (step < begin) return 1;
    if (step >= end) return 0;
    const auto since = [&](Index at) { return static_cast<double>(at) - static_cast<double>(begin); };
    return rate > 0 ? std::exp(-rate * since(step)) : 1 - since(step) / since(end);
  }
};

/// N by the step: the same paper's other schedule, from dense (m of m) by halves to n at `end`.
struct StructureDecay {
  Index n = 2, m = 4;
  Index begin = 0, end = 1;

  Index operator()(Index step) const {
    Index stages = 1;
    for (Index kept = m / 2; kept > std::max<Index>(n, 0); kept /= 2) ++stages;
    if (step < begin || m <= n) return m;
    if (step >= end) return n;
    Index kept = m;
    __extension__ using Wide = __int128;
    const Wide passed = Wide(step) - begin, all = Wide(end) - begin;
    for (Index s = 0; kept > n && s < passed * stages / all; ++s) kept = std::max(n, kept / 2);
    return kept;
  }
};

}  // namespace tessera::inline TESSERA_ABI
