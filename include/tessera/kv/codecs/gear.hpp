/// Quantized rows with their outliers and a low-rank residual beside them, as a codec.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string_view>
#include <utility>

#include <tessera/core/error.hpp>
#include <tessera/kv/codecs/gear_rows.hpp>
#include <tessera/kv/codecs/kivi.hpp>
#include <tessera/kv/codecs/latent.hpp>
#include <tessera/kv/codecs/recent.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// H. Kang et al., "GEAR: An Efficient KV Cache Compression Recipe for Near-Lossless Generative Inference of LLM"
/// (2024), §3: a codec C, its outliers along channels of keys and tokens of values, and the residual at rank `rank`.
/// Tokens arrive in f32 and leave `chunk` at a time. Deviations: prompts are cut in chunks like what follows, so that
/// the same tokens make the same cache however they come; attention reads rows put together in its tile, 2·rank flops a
/// number, where the paper adds (q Bᵀ) Aᵀ to the scores. C's bytes, and of a number 2·rank/d + 2·rank/chunk bytes,
/// 4·sparsity and 4/d. Throws shape_error for heads of over 65535 channels.
template <Codec C = Kivi<4>>
struct Gear {
 private:
  static constexpr auto text = detail::joined<5 + C::name.size()>("gear ", C::name);

 public:
  static constexpr std::string_view name{text.data(), text.size()};
  Index rank = 4;
  double sparsity = 0.02;
  Index chunk = 256;
  C codec = detail::windowless<C>();

  template <class Storage>
  auto keys(Index d, Index kv_head) const {
    return chunked<Storage>(detail::row_store<KvPart::keys, Storage>(codec, d, kv_head), d, OutlierAxis::channel);
  }
  template <class Storage>
  auto values(Index d, Index kv_head) const {
    return chunked<Storage>(detail::row_store<KvPart::values, Storage>(codec, d, kv_head), d, OutlierAxis::token);
  }

 private:
  template <class Storage, class Base>
  auto chunked(Base base, Index d, OutlierAxis axis) const {
    using tessera::detail::concat;
    if (chunk < 1 || chunk > std::numeric_limits<std::int32_t>::max() || rank < 0 || rank > std::min(chunk, d) ||
        !(sparsity >= 0 && sparsity <= 1))
      throw unsupported_error(concat("tessera: Gear of chunks of ", chunk, " tokens of ", d, " channels, rank ", rank,
                                     " and sparsity ", sparsity,
                                     "; expected at least a token, a rank of 0 to the smaller, 0 to 1"));
    if (d > std::numeric_limits<std::uint16_t>::max())
      throw shape_error(concat("tessera: Gear of heads of ", d, " channels; expected at most 65535"));
    if constexpr (requires { codec.recent; })
      if (codec.recent != 0 || chunk % codec.group != 0)
        throw unsupported_error(concat("tessera: Gear of chunks of ", chunk, " tokens over ", C::name,
                                       " with groups of ", codec.group, " and a window of ", codec.recent,
                                       "; expected groups that divide a chunk, and no window"));
    using Rows = GearRows<Base, Storage>;
    return Recent<Rows, Storage>(Rows(std::move(base), d, {axis, rank, sparsity, chunk}), d, chunk, 0);
  }
};

}  // namespace tessera::inline TESSERA_ABI::kv
