/// Fewer channels for old tokens, all of them for the latest.
#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include <tessera/kv/codecs/latent.hpp>
#include <tessera/kv/codecs/linear_map.hpp>
#include <tessera/kv/codecs/plain.hpp>
#include <tessera/kv/codecs/recent.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// L. Wang et al., "CSKV: Training-Efficient Channel Shrinking for KV Cache in Long-Context Scenarios" (2024), §3: the
/// latest tokens in f32, older ones as `width` coordinates by `C`, of which attention reads nothing else: queries are
/// absorbed and results expanded once, and the two branches joined by their log-sum-exp. Between `window` and window +
/// group - 1 tokens are exact. A map for all heads or one each; heads may have ranks of their own. C's bytes of width
/// numbers a token, and 4·d of a token in the window; maps are the model's.
template <Codec C = F16>
struct ChannelShrunk {
 private:
  static constexpr auto text = detail::joined<7 + C::name.size()>("shrunk ", C::name);

 public:
  static constexpr std::string_view name{text.data(), text.size()};
  std::vector<LinearMap> key_maps, value_maps;
  Index window = 32, group = 16;
  C codec = detail::windowless<C>();

  /// Throws shape_error unless maps are as many as heads, or one.
  void check(Index kv_heads) const {
    detail::check_maps(key_maps.size(), kv_heads, "keys");
    detail::check_maps(value_maps.size(), kv_heads, "values");
    detail::check_codec(codec, kv_heads);
  }
  template <class Storage>
  auto keys(Index d, Index kv_head) const {
    return shrunk<KvPart::keys, Storage>(detail::map_of_head(key_maps, kv_head, "keys"), d, kv_head);
  }
  template <class Storage>
  auto values(Index d, Index kv_head) const {
    return shrunk<KvPart::values, Storage>(detail::map_of_head(value_maps, kv_head, "values"), d, kv_head);
  }

 private:
  template <KvPart Part, class Storage>
  auto shrunk(const LinearMap& map, Index d, Index kv_head) const {
    LatentRows rows(map, detail::row_store<Part, Storage>(codec, map.width(), kv_head), d);
    return detail::windowed<Storage>("ChannelShrunk", std::move(rows), d, group, window);
  }
};

}  // namespace tessera::inline TESSERA_ABI::kv
