// Coding of whole blocks, written on a lane's registers and included in its namespace (see codes_avx2.hpp).

inline void bf16_decode(const std::uint16_t* codes, float* out) {
  for (Index j = 0; j < block; j += V::width) V(bf16_values(codes + j), 0).store(out + j);
}

template <bool odd, int... r>
TESSERA_INLINE void bf16_encode(const float* in, std::uint16_t* codes, Noise& noise, std::integer_sequence<int, r...>) {
  for (Index j = 0; j < block; j += 64) {
    noise.next();
    const Words up[] = {bf16_round(load(in + j + r * V::width), noise.template draw<16, odd, r>())...};
    bf16_pack(up, codes + j);
  }
}
inline void bf16_encode(const float* in, std::uint16_t* codes, Key key, std::uint32_t at) {
  constexpr std::make_integer_sequence<int, registers> each;
  Noise noise;
  noise.start(key, at);
  key.odd ? bf16_encode<true>(in, codes, noise, each) : bf16_encode<false>(in, codes, noise, each);
}

inline void dynamic8_decode(const std::uint8_t* codes, float scale, float* out) {
  const Floats by = all(scale), less = all(offset * scale);
  for (Index j = 0; j < block; j += V::width) V(dynamic8_values<false>(codes + j, by, less), 0).store(out + j);
}

/// Of the largest magnitude of a block: NaN and infinity above all numbers.
TESSERA_INLINE std::uint32_t largest_bits(const float* in) {
  Words most = word(0);
  for (Index j = 0; j < block; j += V::width) most = most_of(most, magnitude(load(in + j)));
  return static_cast<std::uint32_t>(_mm_cvtsi128_si32(largest_of(most, most)));
}
template <bool odd, int... r>
TESSERA_INLINE void dynamic8_encode(const float* in, std::uint8_t* codes, Floats inverse, Noise& noise,
                                    std::integer_sequence<int, r...>) {
  for (Index j = 0; j < block; j += 64) {
    noise.next();
    const Words up[] = {
        dynamic8_round<false>(load(in + j + r * V::width), inverse, noise.template draw<20, odd, r>())...};
    dynamic8_pack<false>(up, codes + j);
  }
}
inline float dynamic8_encode(const float* in, bool squares, std::uint8_t* codes, Key key, std::uint32_t at) {
  const std::uint32_t most = largest_bits(in);
  if (most >= 0x7F800000u) {
    for (Index j = 0; j < block; j += 4 * V::width) store(codes + j, word(0));
    return std::numeric_limits<float>::quiet_NaN();
  }
  const auto scale = std::bit_cast<float>(most);
  const Floats inverse = all(inverse_of(scale));
  constexpr std::make_integer_sequence<int, registers> each;
  Noise noise;
  noise.start(key, at);
  key.odd ? dynamic8_encode<true>(in, codes, inverse, noise, each)
          : dynamic8_encode<false>(in, codes, inverse, noise, each);
  if (squares)
    for (Index j = 0; j < block; j += 4 * V::width) store(codes + j, without_zero(load(codes + j)));
  return scale;
}
