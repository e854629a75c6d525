/// Attention at the unit's own flags, for float and double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string_view>
#include <type_traits>

#include <tessera/kernels/attention/args.hpp>
#include <tessera/kernels/attention/token_runs.hpp>
#include <tessera/simd/math.hpp>
#include <tessera/simd/pack.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail::attention_portable {
using TokenLoads = NoTokenCodes;
using PairProducts = NoPairProducts;
using simd::Vec;
#include <tessera/kernels/attention/tiles.inl>
}  // namespace detail::attention_portable

template <class Arch = simd::arch>
struct AttentionXsimd {
  static constexpr std::string_view name = "attention:xsimd";
  static constexpr Isa isa = Isa::portable;
  template <class T>
  using Tiles = detail::attention_portable::AttentionTiles<simd::Vec<T, simd::Portable<Arch>>>;
  template <class T>
  static const char* reject(const AttentionArgs<T>&) {
    return nullptr;
  }
  template <class T>
  static std::size_t scratch(const AttentionArgs<T>& args) {
    return Tiles<T>::scratch(args);
  }
  template <class T>
  static void run(const AttentionArgs<T>& args, RowRange pieces) noexcept {
    Tiles<T>::run(args, pieces);
  }
};

}  // namespace tessera::inline TESSERA_ABI
