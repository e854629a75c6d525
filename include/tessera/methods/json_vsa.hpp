/// JSON documents as vectors of one length. Needs nlohmann-json.
#pragma once

#include <cmath>
#include <concepts>
#include <nlohmann/json.hpp>
#include <string>

#include <tessera/methods/vsa.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {
inline constexpr int most_json_levels = 1000;  // each is a call

/// The text of a number, string or key. Throws format_error where it is not UTF-8.
inline std::string json_text(const nlohmann::json& value) {
  try {
    return value.dump();
  } catch (const nlohmann::json::type_error& e) {
    throw format_error(concat("tessera: json_to_vsa of a document with a string or key that is not UTF-8: ", e.what(),
                              ": expected UTF-8, as json::parse takes"));
  }
}

template <std::floating_point S>
Eigen::VectorX<S> json_to_vsa_at(const nlohmann::json& document, Index d, std::uint64_t seed, S resolution, int depth) {
  const auto role = [&](const std::string& name, const Eigen::VectorX<S>& v) {
    return vsa_bind(VsaRole<S>(d, name, seed), v);
  };
  if (document.is_object() || document.is_array()) {
    if (depth >= most_json_levels)
      throw unsupported_error(concat("tessera: json_to_vsa of a document nested ", depth + 1,
                                     " levels deep or more: expected at most ", most_json_levels));
    Eigen::VectorX<S> sum = vsa_symbol<S>(d, document.is_object() ? "{}" : "[]", seed) * S(0.1);
    if (document.is_object()) {
      for (const auto& [key, value] : document.items()) {
        json_text(key);
        sum += role("key:" + key, json_to_vsa_at<S>(value, d, seed, resolution, depth + 1));
      }
    } else {  // Horner: M (e_0 + M (e_1 + …))
      Eigen::VectorX<S> rest = Eigen::VectorX<S>::Zero(d);
      for (auto item = document.rbegin(); item != document.rend(); ++item)
        rest = role("item", json_to_vsa_at<S>(*item, d, seed, resolution, depth + 1) + rest);
      sum += rest;
    }
    return sum;
  }
  if (document.is_number()) {
    if (!std::isfinite(document.get<double>()))
      throw unsupported_error(
          concat("tessera: json_to_vsa of the number ", document.get<double>(), ": expected a finite one"));
    const S angle = std::atan(document.get<S>() / resolution), half = std::sqrt(S(0.5));
    return half * (std::cos(angle) * vsa_symbol<S>(d, "number:cos", seed) +
                   std::sin(angle) * vsa_symbol<S>(d, "number:sin", seed) +
                   vsa_symbol<S>(d, "number:" + json_text(document), seed));
  }
  return vsa_symbol<S>(d, "value:" + json_text(document), seed);
}
}  // namespace detail

/// A document as one vector (d), d a power of two, after S. Gallant (2022), see vsa.hpp:
///   object = Σ over keys of M_key enc(value)   array = Σ over i of M_item^(i+1) enc(item)   scalar = its symbol
/// numbers near each other are alike: x at resolution r is cos(θ) u + sin(θ) w + its own symbol, θ = atan(x/r).
/// Similar documents have similar vectors; M_keyᵀ of a document is the value of `key` plus noise of norm O(√keys).
/// Throws shape_error unless d is a power of two, unsupported_error for more than 1000 levels and numbers
/// that are not finite, format_error for strings that are not UTF-8.
template <std::floating_point S>
Eigen::VectorX<S> json_to_vsa(const nlohmann::json& document, Index d, std::uint64_t seed = 1, S resolution = S(10)) {
  if (d < 1 || (d & (d - 1)) != 0)
    throw shape_error(detail::concat("tessera: json_to_vsa to ", d, " numbers: expected a power of two"));
  return detail::json_to_vsa_at<S>(document, d, seed, resolution, 0);
}

}  // namespace tessera::inline TESSERA_ABI
