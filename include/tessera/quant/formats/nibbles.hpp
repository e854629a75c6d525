/// Codes of 4 and 5 bits as several formats lay them out.
#pragma once

#include <cstddef>
#include <cstdint>

#include <tessera/core/config.hpp>

namespace tessera::inline TESSERA_ABI::detail {

/// 2 * Half codes: code i in the low half of byte i, code Half + i in the high half.
template <std::size_t Half>
void nibble_codes(const std::uint8_t* qs, std::uint8_t* c) {
  for (std::size_t i = 0; i < Half; ++i) {
    c[i] = qs[i] & 15;
    c[Half + i] = static_cast<std::uint8_t>(qs[i] >> 4);
  }
}
/// Of codes with more bits the low four.
template <std::size_t Half>
void set_nibble_codes(std::uint8_t* qs, const std::uint8_t* c) {
  for (std::size_t i = 0; i < Half; ++i) qs[i] = static_cast<std::uint8_t>((c[i] & 15) | (c[Half + i] & 15) << 4);
}

/// 32 codes of 5 bits: the low four as above, bit i of qh is bit 4 of code i.
inline void five_bit_codes(const std::uint8_t (&qh)[4], const std::uint8_t (&qs)[16], std::uint8_t* c) {
  nibble_codes<16>(qs, c);
  for (std::size_t i = 0; i < 32; ++i) c[i] = static_cast<std::uint8_t>(c[i] | (qh[i / 8] >> (i % 8) & 1) << 4);
}
inline void set_five_bit_codes(std::uint8_t (&qh)[4], std::uint8_t (&qs)[16], const std::uint8_t* c) {
  set_nibble_codes<16>(qs, c);
  for (auto& byte : qh) byte = 0;
  for (std::size_t i = 0; i < 32; ++i) qh[i / 8] = static_cast<std::uint8_t>(qh[i / 8] | (c[i] >> 4 & 1) << (i % 8));
}

}  // namespace tessera::inline TESSERA_ABI::detail
