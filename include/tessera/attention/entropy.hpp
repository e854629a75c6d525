/// The entropy of attention's rows beside the result, and a regulariser of it.
/// N. Jha, B. Reagen, "Entropy-Guided Attention for Private LLMs" (2025).
#pragma once

#include <cmath>

#include <tessera/attention/attention.hpp>
#include <tessera/core/error.hpp>

namespace tessera::inline TESSERA_ABI {

/// out and H_i = -Σ_j p_ij log p_ij in one pass: H = log Σ_j e^(s_j - top) - Σ_j p_j (s_j - top), both sums kept online
/// beside the softmax's own. 0 <= H <= log(keys seen). See attention().
template <class T, class Keys, class Values, class... Mods>
void attention_with_entropy(Context& ctx, View<const std::type_identity_t<T>, 3> Q,  // (heads, n, d)
                            const Keys& K,                                           // (kv_heads, m, d)
                            const Values& V,                                         // (kv_heads, m, dv)
                            View<T, 3> out,                                          // (heads, n, dv)
                            View<std::type_identity_t<T>, 2> entropy,                // (heads, n)
                            const ScoreMods<Mods...>& mods, AttentionOptions options = {}) {
  attention<T>(ctx, Q, K, V, out, mods, options, {{}, entropy});
}

/// mean over heads of excess_h², where head h's mean entropy E_h may deviate from theta_h·most by margin·most for free:
/// excess_h = |E_h - theta_h·most| - margin·most where that is positive, else 0. `most` is log(keys), or what full
/// attention could reach; theta_h in [0, 1] is learned (dtheta). The paper's penalty jumps at the margin to the whole
/// squared deviation; this one starts from 0, so that its gradient is that of the loss everywhere.
/// dentropy (heads, n) and dtheta (heads) are overwritten where they have data. Throws shape_error. O(heads·n).
template <class T>
T entropy_reg(View<const T, 2> entropy, VectorView<const T> theta,
              std::type_identity_t<T> margin,  // (heads, n), (heads)
              std::type_identity_t<T> most, std::type_identity_t<View<T, 2>> dentropy = {},
              std::type_identity_t<VectorView<T>> dtheta = {}) {
  const Index heads = entropy.extent(0), n = entropy.extent(1);
  if (theta.extent(0) != heads || (dtheta.data() != nullptr && dtheta.extent(0) != heads) ||
      (dentropy.data() != nullptr && dentropy.extents() != entropy.extents()))
    throw shape_error(detail::concat("tessera: entropy_reg of entropies ", detail::shape_text(heads, n), " with ",
                                     theta.extent(0), " thresholds: gradients are ",
                                     detail::shape_text(dentropy.extent(0), dentropy.extent(1)), " and ",
                                     dtheta.extent(0), "; expected a threshold a head and gradients of equal shapes"));
  T loss = 0;
  for (Index h = 0; h < heads; ++h) {
    T mean = 0;
    for (Index i = 0; i < n; ++i) mean += entropy(h, i);
    if (n > 0) mean /= static_cast<T>(n);
    const T deviation = mean - theta[h] * most, beyond = std::abs(deviation) - margin * most;
    const T slope = n == 0 || beyond <= 0 ? T(0) : 2 * std::copysign(beyond, deviation) / static_cast<T>(heads);
    if (beyond > 0 && n > 0) loss += beyond * beyond / static_cast<T>(heads);
    for (Index i = 0; dentropy.data() != nullptr && i < n; ++i) dentropy(h, i) = slope / static_cast<T>(n);
    if (dtheta.data() != nullptr) dtheta[h] = -slope * most;
  }
  return loss;
}

}  // namespace tessera::inline TESSERA_ABI
