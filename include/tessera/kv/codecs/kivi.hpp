/// Keys quantized along each channel, values along each token, the latest tokens exact.
#pragma once

#include <string_view>

#include <tessera/kv/codecs/channel_groups.hpp>
#include <tessera/kv/codecs/recent.hpp>
#include <tessera/kv/codecs/token_blocks.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// Z. Liu et al., "KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache" (ICML 2024), §3. A few channels of
/// keys are large in every token, so keys share a scale and a zero point a channel and `group` tokens; values a token
/// and `value_group` channels, whole 32 of which attention reads without decoding. Each number is within half its
/// group's step: (max - min) / (2^(Bits+1) - 2), a little more for the f16 scale. Bits + 1 bits a number (group 32, d a
/// multiple of 32) beside `recent` to recent + group - 1 tokens in f32. The paper measures with `recent` 128.
/// Deviation: values leave the exact window in groups like keys, not one by one.
template <int Bits>
struct Kivi {
  static constexpr std::string_view name = Bits == 2 ? "int2" : Bits == 3 ? "int3" : "int4";
  Index group = 32;
  Index recent = 32;
  Index value_group = 32;  // channels that share a grid of values: see TokenBlocks

  template <class Storage>
  auto keys(Index d) const {
    return detail::windowed<Storage>("Kivi", ChannelGroups<Bits, Storage>(d, group), d, group, recent);
  }
  template <class Storage>
  auto values(Index d) const {
    return detail::windowed<Storage>("Kivi", TokenBlocks<Bits, Storage>(d, value_group), d, group, recent);
  }
};

}  // namespace tessera::inline TESSERA_ABI::kv
