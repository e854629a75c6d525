/// JSON documents as vectors of one length. Needs nlohmann-json.
#pragma once

#include <cmath>
#include <concepts>
#include <nlohmann/json.hpp>
#include <string>

#include <tessera/methods/vsa.hpp>

namespace tessera::inline TESSERA_ABI {

/// A document as one vector (d), d a power of two, after S. Gallant (2022), see vsa.hpp:
///   object = Σ over keys of M_key enc(value)   array = Σ over i of M_item^(i+1) enc(item)   scalar = its symbol
/// numbers near each other are alike: x at resolution r is cos(θ) u + sin(θ) w + its own symbol, θ = atan(x/r).
/// Similar documents have similar vectors; M_keyᵀ of a document is the value of `key` plus noise of norm O(√keys).
template <std::floating_point S>
Eigen::VectorX<S> json_to_vsa(const nlohmann::json& document, Index d, std::uint64_t seed = 1, S resolution = S(10)) {
  const auto role = [&](const std::string& name, const Eigen::VectorX<S>& v) {
    return vsa_bind(VsaRole<S>(d, name, seed), v);
  };
  if (document.is_object() || document.is_array()) {
    Eigen::VectorX<S> sum = vsa_symbol<S>(d, document.is_object() ? "{}" : "[]", seed) * S(0.1);
    if (document.is_object()) {
      for (const auto& [key, value] : document.items())
        sum += role("key:" + key, json_to_vsa<S>(value, d, seed, resolution));
    } else {  // Horner: M (e_0 + M (e_1 + …))
      Eigen::VectorX<S> rest = Eigen::VectorX<S>::Zero(d);
      for (auto item = document.rbegin(); item != document.rend(); ++item)
        rest = role("item", json_to_vsa<S>(*item, d, seed, resolution) + rest);
      sum += rest;
    }
    return sum;
  }
  if (document.is_number()) {
    const S angle = std::atan(document.get<S>() / resolution), half = std::sqrt(S(0.5));
    return half * (std::cos(angle) * vsa_symbol<S>(d, "number:cos", seed) +
                   std::sin(angle) * vsa_symbol<S>(d, "number:sin", seed) +
                   vsa_symbol<S>(d, "number:" + document.dump(), seed));
  }
  return vsa_symbol<S>(d, "value:" + document.dump(), seed);
}

}  // namespace tessera::inline TESSERA_ABI
