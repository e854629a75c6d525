/// Each block by itself, each value to its nearest code.
#pragma once

#include <span>

#include <tessera/quant/format.hpp>

namespace tessera::inline TESSERA_ABI {

/// Turns block_size values into a block: `quantizer.template encode<F>(x, block)`.
template <class Q, class F>
concept BlockQuantizer = BlockFormat<F> &&
    requires(const Q& quantizer, std::span<const float> x, typename F::Block& block) {
  quantizer.template encode<F>(x, block);
};

/// The format's own encoder: the scale spans the block's range. No calibration.
struct RoundToNearest {
  template <BlockFormat F>
  void encode(std::span<const float> x, typename F::Block& block) const {
    F::encode(x, block);
  }
};

}  // namespace tessera::inline TESSERA_ABI
