/// Every block format. The tests of the codecs and of the kernels run over `BlockFormats`.
#pragma once

#include <tessera/quant/format.hpp>
#include <tessera/quant/formats/q4_0.hpp>
#include <tessera/quant/formats/q4_1.hpp>
#include <tessera/quant/formats/q8_0.hpp>

namespace tessera::inline TESSERA_ABI {

template <BlockFormat... F>
struct FormatList {
  static constexpr std::size_t size = sizeof...(F);
};

using BlockFormats = FormatList<Q8_0, Q4_0, Q4_1>;

}  // namespace tessera::inline TESSERA_ABI
