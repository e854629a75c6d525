/// Universal hashing by Toeplitz matrices over GF(2): T (n,m) of bits times a message, h(a ⊕ b) = h(a) ⊕ h(b).
/// H. Krawczyk, "LFSR-based Hashing and Authentication" (CRYPTO 1994); the product that H. Yin et al., "One-Time
/// Universal Hashing Quantum Digital Signatures without Perfect Keys" (2023) signs with.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include <tessera/core/config.hpp>
#include <tessera/core/error.hpp>
#include <tessera/simd/isa.hpp>
#include <tessera/simd/target.hpp>

namespace tessera::inline TESSERA_ABI {

/// Bits packed little-endian, bit i being bit i % 64 of word i / 64. Bits beyond the last are zero.
struct BitVector {
  Index bits = 0;
  std::vector<std::uint64_t> words;

  BitVector() = default;
  /// Zeros. Throws shape_error for fewer than none.
  explicit BitVector(Index count) : bits(count), words(words_of(count)) {}
  bool get(Index i) const { return (words[static_cast<std::size_t>(i / 64)] >> (i % 64) & 1) != 0; }
  void set(Index i, bool value) {
    auto& word = words[static_cast<std::size_t>(i / 64)];
    const std::uint64_t bit = std::uint64_t{1} << (i % 64);
    word = value ? word | bit : word & ~bit;
  }
  friend bool operator==(const BitVector&, const BitVector&) = default;

 private:
  static std::size_t words_of(Index count) {
    if (count < 0) throw shape_error(detail::concat("tessera: a vector of ", count, " bits; expected 0 or more"));
    return static_cast<std::size_t>(count / 64 + (count % 64 != 0 ? 1 : 0));
  }
};

namespace detail {

/// The low and the high word of the product of two polynomials over GF(2).
struct CarrylessProduct {
  std::uint64_t low, high;
};
inline CarrylessProduct carryless_portable(std::uint64_t a, std::uint64_t b) {
  std::uint64_t low = 0, high = 0;
  for (; b != 0; b &= b - 1) {
    const int shift = std::countr_zero(b);
    low ^= a << shift;
    if (shift > 0) high ^= a >> (64 - shift);
  }
  return {low, high};
}

/// sum[k] ^= words of a * b for all pairs of words (i, j) with k = i + j, k in [first, first + count).
inline void carryless_portable(const std::uint64_t* a, Index an, const std::uint64_t* b, Index bn, Index first,
                               Index count, std::uint64_t* sum) {
  for (Index i = 0; i < an; ++i)
    for (Index j = 0; j < bn; ++j) {
      const Index k = i + j - first;
      if (k < -1 || k >= count) continue;
      const auto [low, high] = carryless_portable(a[i], b[j]);
      if (k >= 0) sum[k] ^= low;
      if (k + 1 < count) sum[k + 1] ^= high;
    }
}

#if TESSERA_X86
TESSERA_TARGET_BEGIN("pclmul,sse4.1")
inline void carryless_clmul(const std::uint64_t* a, Index an, const std::uint64_t* b, Index bn, Index first,
                            Index count, std::uint64_t* sum) {
  for (Index k = -1; k < count; ++k) {  // one diagonal i + j = first + k at a time, its sum in a register
    const Index diagonal = first + k;
    const Index begin = diagonal - (bn - 1) > 0 ? diagonal - (bn - 1) : 0, end = diagonal < an - 1 ? diagonal : an - 1;
    __m128i total = _mm_setzero_si128();
    for (Index i = begin; i <= end; ++i)
      total = _mm_xor_si128(total, _mm_clmulepi64_si128(_mm_cvtsi64_si128(static_cast<long long>(a[i])),
                                                        _mm_cvtsi64_si128(static_cast<long long>(b[diagonal - i])), 0));
    if (k >= 0) sum[k] ^= static_cast<std::uint64_t>(_mm_cvtsi128_si64(total));
    if (k + 1 < count) sum[k + 1] ^= static_cast<std::uint64_t>(_mm_extract_epi64(total, 1));
  }
}
TESSERA_TARGET_END
inline bool has_clmul() { return __builtin_cpu_supports("pclmul") && active_isa().has(Isa::avx2); }
#else
inline bool has_clmul() { return false; }
#endif

/// Throws shape_error unless v has the words of its bits.
inline void check_bits(const char* what, const BitVector& v) {
  const Index words = v.bits < 0 ? -1 : v.bits / 64 + (v.bits % 64 != 0 ? 1 : 0);
  if (static_cast<Index>(v.words.size()) != words)
    throw shape_error(
        concat("tessera: ", what, " of ", v.bits, " bits in ", v.words.size(), " words: expected ", words, " words"));
}

}  // namespace detail

/// T x (n bits) with T(i,j) = seed[i - j + m - 1] of n + m - 1 seed bits and x of m bits: the middle of the product of
/// two polynomials over GF(2), n·m/64² carry-less multiplications of words (portable: shifts and XORs). Throws
/// shape_error unless the seed has n + m - 1 bits, and all bits their words.
inline BitVector gf2_toeplitz_hash(const BitVector& seed, const BitVector& message, Index digest_bits) {
  const Index m = message.bits, n = digest_bits;
  detail::check_bits("gf2_toeplitz_hash: a seed", seed);
  detail::check_bits("gf2_toeplitz_hash: a message", message);
  if (n < 1 || m < 1 || seed.bits - m + 1 != n)
    throw shape_error(detail::concat("tessera: gf2_toeplitz_hash of ", m, " bits to ", n, " with a seed of ", seed.bits,
                                     " bits: expected one less than of both together"));
  // Bit i + m - 1 of seed(z) * message(z) is sum over j of seed[i + m - 1 - j] message[j].
  const Index first = (m - 1) / 64, shift = (m - 1) % 64, count = (n + 63) / 64 + 1;
  std::vector<std::uint64_t> sum(static_cast<std::size_t>(count));
  const auto an = static_cast<Index>(seed.words.size()), bn = static_cast<Index>(message.words.size());
#if TESSERA_X86
  if (detail::has_clmul())
    detail::carryless_clmul(seed.words.data(), an, message.words.data(), bn, first, count, sum.data());
  else
#endif
    detail::carryless_portable(seed.words.data(), an, message.words.data(), bn, first, count, sum.data());
  BitVector digest(n);
  for (std::size_t k = 0; k < digest.words.size(); ++k)
    digest.words[k] = shift == 0 ? sum[k] : sum[k] >> shift | sum[k + 1] << (64 - shift);
  if (n % 64 != 0) digest.words.back() &= (std::uint64_t{1} << (n % 64)) - 1;
  return digest;
}

/// The n + m - 1 seed bits of the Toeplitz matrix whose columns are the states of a linear feedback shift register:
/// s(t + n) = sum over i of p_i s(t + i), of n feedback bits p and n bits of state, both secret and of one length. With
/// p irreducible, two messages of m bits collide with probability at most m·2^(1-n). Throws shape_error.
inline BitVector lfsr_toeplitz_seed(const BitVector& feedback, const BitVector& state, Index message_bits) {
  const Index n = feedback.bits;
  detail::check_bits("lfsr_toeplitz_seed: feedback", feedback);
  detail::check_bits("lfsr_toeplitz_seed: state", state);
  if (n < 1 || state.bits != n || message_bits < 1 || message_bits > std::numeric_limits<Index>::max() - 64 - n)
    throw shape_error(detail::concat("tessera: lfsr_toeplitz_seed of ", n, " feedback bits, ", state.bits,
                                     " bits of state and messages of ", message_bits,
                                     ": expected equal lengths from 1"));
  BitVector s(n + message_bits - 1);
  for (Index i = 0; i < n; ++i) s.set(i, state.get(i));
  for (Index t = 0; t + n < s.bits; ++t) {
    bool next = false;
    for (Index i = 0; i < n; ++i) next ^= feedback.get(i) && s.get(t + i);
    s.set(t + n, next);
  }
  return s;
}

}  // namespace tessera::inline TESSERA_ABI
