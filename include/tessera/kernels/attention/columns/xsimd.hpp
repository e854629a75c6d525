/// Column sums at the unit's own flags, for float and double.
#pragma once

#include <algorithm>
#include <string_view>
#include <type_traits>

#include <tessera/kernels/attention/columns/args.hpp>
#include <tessera/simd/math.hpp>
#include <tessera/simd/pack.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail::attention_columns_portable {
#include <tessera/kernels/attention/columns/tile.inl>
}  // namespace detail::attention_columns_portable

template <class Arch = simd::arch>
struct AttentionColumnsXsimd {
  static constexpr std::string_view name = "attention_columns:xsimd";
  static constexpr Isa isa = Isa::portable;
  template <class T>
  static const char* reject(const AttentionColumnsArgs<T>& args) {
    return args.along_tokens() || args.along_rows() ? nullptr : "neither rows nor tokens are next to each other";
  }
  template <class T>
  static void run(const AttentionColumnsArgs<T>& args, RowRange tokens) noexcept {
    detail::attention_columns_portable::ColumnsTile<simd::Vec<T, simd::Portable<Arch>>>::run(args, tokens);
  }
};

}  // namespace tessera::inline TESSERA_ABI
