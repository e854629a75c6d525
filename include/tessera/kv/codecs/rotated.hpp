/// A rotation before any codec.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>

#include <tessera/kv/codecs/latent.hpp>
#include <tessera/quant/hadamard.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// Keys and values of each head by the randomized Hadamard rotation of quant/hadamard.hpp, then by `C`: what one
/// channel has too much of is spread over all (the largest power of two that divides d), where a grid a token meets it
/// evenly. Attention never rotates back a token: it rotates each query once and each result once. S. Ashkboos et al.,
/// "QuaRot: Outlier-Free 4-Bit Inference in Rotated LLMs" (NeurIPS 2024), §4. C's bytes.
template <Codec C>
struct Rotated {
 private:
  static constexpr auto text = detail::joined<8 + C::name.size()>("rotated ", C::name);

 public:
  static constexpr std::string_view name{text.data(), text.size()};
  C codec = {};
  std::uint64_t seed = 1;  // of the signs; 0 for none

  void check(Index kv_heads) const { detail::check_codec(codec, kv_heads); }
  template <class Storage>
  auto keys(Index d, Index kv_head) const {
    return LatentRows(map(d), detail::row_store<KvPart::keys, Storage>(codec, d, kv_head), d);
  }
  template <class Storage>
  auto values(Index d, Index kv_head) const {
    return LatentRows(map(d), detail::row_store<KvPart::values, Storage>(codec, d, kv_head), d);
  }

 private:
  OrthogonalMap<HadamardRotation> map(Index d) const { return OrthogonalMap(HadamardRotation(d, seed)); }
};

}  // namespace tessera::inline TESSERA_ABI::kv
