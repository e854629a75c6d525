/// Entropy coding of symbols with known frequencies.
/// J. Duda, "Asymmetric numeral systems: entropy coding combining speed of Huffman coding with compression rate of
/// arithmetic coding" (2013), the range variant on a 32-bit state, a byte at a time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <tessera/core/config.hpp>
#include <tessera/core/error.hpp>

namespace tessera::inline TESSERA_ABI {

/// A symbol's share [begin, begin + size) of `range_total`; size >= 1.
struct RangeInterval {
  std::uint32_t begin, size;
};
inline constexpr int range_bits = 16;
inline constexpr std::uint32_t range_total = 1u << range_bits;

/// Symbols are coded last to first: push them in the reverse of the order in which they will be read.
class RangeEncoder {
 public:
  /// Throws unsupported_error for an interval that is empty or ends beyond range_total.
  void push(RangeInterval symbol) {
    if (symbol.size < 1 || symbol.size > range_total || symbol.begin > range_total - symbol.size)
      throw unsupported_error(detail::concat("tessera: range coder: the interval from ", symbol.begin, " of size ",
                                             symbol.size, ": expected 1 or more, that end at ", range_total,
                                             " at most"));
    const std::uint64_t most = (std::uint64_t{least} >> range_bits << 8) * symbol.size;
    for (; state_ >= most; state_ >>= 8) bytes_.push_back(static_cast<std::uint8_t>(state_));
    state_ = state_ / symbol.size * range_total + symbol.begin + state_ % symbol.size;
  }
  /// The code of all that was pushed.
  std::vector<std::uint8_t> finish() && {
    for (int i = 0; i < 4; ++i, state_ >>= 8) bytes_.push_back(static_cast<std::uint8_t>(state_));
    std::reverse(bytes_.begin(), bytes_.end());
    return std::move(bytes_);
  }

  static constexpr std::uint32_t least = 1u << 23;  // states are in [2^23, 2^31)

 private:
  std::uint32_t state_ = least;
  std::vector<std::uint8_t> bytes_;
};

class RangeDecoder {
 public:
  /// Throws format_error for fewer than 4 bytes, or bytes that no encoder ended with.
  explicit RangeDecoder(std::span<const std::uint8_t> bytes) : bytes_(bytes) {
    for (int i = 0; i < 4; ++i) state_ = state_ << 8 | next();
    if (state_ < RangeEncoder::least) throw format_error("tessera: range coder: the state is below its least value");
  }
  /// Where in range_total the next symbol lies.
  std::uint32_t peek() const { return state_ % range_total; }
  /// Removes it. Throws format_error where the code ends too early.
  void pop(RangeInterval symbol) {
    state_ = symbol.size * (state_ / range_total) + peek() - symbol.begin;
    while (state_ < RangeEncoder::least) state_ = state_ << 8 | next();
  }
  /// Whether all that was pushed has been removed, and no bytes are left.
  bool finished() const { return at_ == bytes_.size() && state_ == RangeEncoder::least; }

 private:
  std::uint32_t next() {
    if (at_ == bytes_.size())
      throw format_error(detail::concat("tessera: range coder: the code ends after ", at_, " bytes"));
    return bytes_[at_++];
  }

  std::span<const std::uint8_t> bytes_;
  std::size_t at_ = 0;
  std::uint32_t state_ = 0;
};

}  // namespace tessera::inline TESSERA_ABI
