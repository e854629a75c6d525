#pragma once

#include <bit>

#include <tessera/kernels/fixed_round/args.hpp>

namespace tessera::inline TESSERA_ABI {

/// The obvious loop.
struct FixedRoundRef {
  static constexpr std::string_view name = "fixed_round:ref";
  static constexpr Isa isa = Isa::portable;
  static const char* reject(const FixedRoundArgs&) { return nullptr; }
  static void run(const FixedRoundArgs& a, RowRange lines) noexcept {
    detail::fixed_round_lines<FixedRoundRef>(a, lines);
  }

  static std::uint32_t most(const float* x, Index n) noexcept {
    std::uint32_t bits = 0;
    for (Index i = 0; i < n; ++i) bits = std::max(bits, std::bit_cast<std::uint32_t>(x[i]) & 0x7fffffffu);
    return bits;
  }
  static void round(const float* x, Index n, float first, float second, std::int16_t* q) noexcept {
    constexpr float shift = 12582912.0f;  // beyond it the integers are every binary32 there is
    for (Index i = 0; i < n; ++i) q[i] = static_cast<std::int16_t>((x[i] * first * second + shift) - shift);
  }
};

}  // namespace tessera::inline TESSERA_ABI
