/// The keys or the values of one layer and chunk as anchors and deltas, quantized and coded.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <tessera/core/config.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/types.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kv/cachegen/symbols.hpp>

namespace tessera::inline TESSERA_ABI::kv::detail {

/// Tokens in groups: the first is the anchor, the others deltas to it.
struct TokenGroups {
  Index group, tokens;
  Index anchors() const { return (tokens + group - 1) / group; }
  Index deltas() const { return tokens - anchors(); }
};

/// A channel's number is mean + symbol · anchor_step, and that of a delta its anchor's + symbol · delta_step. Steps
/// have 11 bits, so that both products are exact and sums are the same however they are compiled.
struct ChannelGrid {
  float mean = 0, anchor_step = 0, delta_step = 0;
};

/// A step with 11 bits, not below x > 0.
inline float short_step(float x) {
  return std::bit_cast<float>((std::bit_cast<std::uint32_t>(x) + 0x1fffu) & ~std::uint32_t{0x1fff});
}

struct QuantizedTensor {
  float step = 0;
  std::vector<bf16> means;              // (channels)
  std::vector<std::uint8_t> exponents;  // (channels): by how many doublings its steps are larger, deltas' low
  std::vector<std::int8_t> anchors;     // (channels, anchors)
  std::vector<std::int8_t> deltas;      // (channels, deltas)

  QuantizedTensor(Index channels, const TokenGroups& of)
      : means(static_cast<std::size_t>(channels)),
        exponents(means.size()),
        anchors(static_cast<std::size_t>(channels * of.anchors())),
        deltas(static_cast<std::size_t>(channels * of.deltas())) {}

  ChannelGrid grid(Index c) const {
    const auto i = static_cast<std::size_t>(c);
    return {float(means[i]), std::ldexp(step, (exponents[i] >> 4) - 2), std::ldexp(step, exponents[i] & 15)};
  }
};

/// How many doublings of `step` bring `range` within 127 of it.
inline int doublings(float range, float step) {
  int k = 0;
  for (; k < 300 && range > 127.25f * std::ldexp(step, k); ++k) {
  }
  return k;
}
inline std::int8_t to_symbol(float x, float step) {
  return static_cast<std::int8_t>(std::clamp(std::nearbyint(x / step), -127.0f, 127.0f));
}

/// X (kv_heads, t, d) to symbols, a channel of a head being one of kv_heads · d. The step of deltas is `step`, or `bin`
/// times the median channel's root mean square of deltas, and anchors have a quarter of it; a channel whose range takes
/// more than 255 of its steps doubles them. Deltas are taken to anchors as decoded, so that every number is within half
/// a step. Throws unsupported_error for numbers that are not finite or 2^110 and more.
inline QuantizedTensor quantize_tensor(View<const float, 3> X, const TokenGroups& of, float bin, float step) {
  const Index d = X.extent(2), channels = X.extent(0) * d, t = of.tokens, a = of.anchors();
  QuantizedTensor q(channels, of);
  std::vector<float> x(static_cast<std::size_t>(channels * t));  // by channel
  std::vector<float> spread(static_cast<std::size_t>(channels)), reach(spread.size());
  float widest = 0;
  for (Index c = 0; c < channels; ++c) {
    float* const row = x.data() + c * t;
    double sum = 0, squares = 0;
    for (Index i = 0; i < t; ++i) {
      row[i] = X(c / d, i, c % d);
      if (!(std::abs(row[i]) < 0x1p110f))
        throw unsupported_error(tessera::detail::concat("tessera: CacheGen: head ", c / d, ", token ", i, ", channel ",
                                                        c % d, " is ", row[i],
                                                        "; expected finite numbers below 2^110"));
      if (i % of.group == 0)
        sum += static_cast<double>(row[i]);
      else
        squares += std::pow(static_cast<double>(row[i]) - static_cast<double>(row[i / of.group * of.group]), 2);
    }
    const auto s = static_cast<std::size_t>(c);
    q.means[s] = bf16(static_cast<float>(sum / static_cast<double>(a)));
    for (Index i = 0; i < t; ++i) reach[s] = std::max(reach[s], std::abs(row[i] - float(q.means[s])));
    spread[s] = of.deltas() > 0 ? static_cast<float>(std::sqrt(squares / static_cast<double>(of.deltas()))) : reach[s];
    widest = std::max(widest, reach[s]);
  }
  std::vector<float> sorted = spread;
  std::nth_element(sorted.begin(), sorted.begin() + channels / 2, sorted.end());
  if (step == 0) step = bin * sorted[static_cast<std::size_t>(channels / 2)];
  q.step = short_step(std::max({step, widest * 0x1p-18f, 0x1p-100f}));
  for (Index c = 0; c < channels; ++c) {
    const auto s = static_cast<std::size_t>(c);
    const float* const row = x.data() + c * t;
    const int anchor = std::min(doublings(reach[s], q.step / 4), 15);
    q.exponents[s] = static_cast<std::uint8_t>(anchor << 4);
    ChannelGrid grid = q.grid(c);
    const auto anchor_of = [&](Index i) {
      return grid.mean +
             static_cast<float>(q.anchors[static_cast<std::size_t>(c * a + i / of.group)]) * grid.anchor_step;
    };
    float range = 0;
    for (Index i = 0; i < t; ++i) {
      if (i % of.group == 0)
        q.anchors[static_cast<std::size_t>(c * a + i / of.group)] = to_symbol(row[i] - grid.mean, grid.anchor_step);
      else
        range = std::max(range, std::abs(row[i] - anchor_of(i)));
    }
    q.exponents[s] = static_cast<std::uint8_t>(anchor << 4 | std::min(doublings(range, q.step), 15));
    grid = q.grid(c);
    std::int8_t* to = q.deltas.data() + c * of.deltas();
    for (Index i = 0; i < t; ++i)
      if (i % of.group != 0) *to++ = to_symbol(row[i] - anchor_of(i), grid.delta_step);
  }
  return q;
}

/// What the symbols stand for, into (kv_heads, t, d).
inline void dequantize_tensor(const QuantizedTensor& q, const TokenGroups& of, View<float, 3> to) {
  const Index d = to.extent(2), a = of.anchors(), b = of.deltas();
  std::vector<ChannelGrid> grids(static_cast<std::size_t>(d));
  std::vector<float> base(static_cast<std::size_t>(d));
  for (Index h = 0; h < to.extent(0); ++h) {
    for (Index c = 0; c < d; ++c) grids[static_cast<std::size_t>(c)] = q.grid(h * d + c);
    const std::int8_t* const anchors = q.anchors.data() + h * d * a;
    const std::int8_t* const deltas = q.deltas.data() + h * d * b;
    for (Index i = 0; i < of.tokens; ++i) {
      float* const row = &to(h, i, 0);
      const Index g = i / of.group;
      if (i % of.group == 0) {
        for (Index c = 0; c < d; ++c) {
          const ChannelGrid& grid = grids[static_cast<std::size_t>(c)];
          row[c] = base[static_cast<std::size_t>(c)] =
              grid.mean + static_cast<float>(anchors[c * a + g]) * grid.anchor_step;
        }
      } else {
        const std::int8_t* const from = deltas + i - g - 1;
        for (Index c = 0; c < d; ++c)
          row[c] = base[static_cast<std::size_t>(c)] +
                   static_cast<float>(from[c * b]) * grids[static_cast<std::size_t>(c)].delta_step;
      }
    }
  }
}

inline void encode_tensor(const QuantizedTensor& q, const TokenGroups& of, bool one_model, Bytes& to) {
  const auto channels = static_cast<Index>(q.means.size());
  put(to, std::bit_cast<std::uint32_t>(q.step));
  for (const bf16 mean : q.means) put(to, mean.bits);
  to.insert(to.end(), q.exponents.begin(), q.exponents.end());
  encode_symbols(q.anchors.data(), channels, of.anchors(), one_model, to);
  encode_symbols(q.deltas.data(), channels, of.deltas(), one_model, to);
}

/// nullptr, or what is wrong. `q` has the shape that is expected.
inline const char* decode_tensor(ByteReader& from, const TokenGroups& of, QuantizedTensor& q) {
  const auto channels = static_cast<Index>(q.means.size());
  const auto bits = from.get<std::uint32_t>();
  q.step = std::bit_cast<float>(bits);
  if (!(q.step >= 0x1p-100f && q.step <= 0x1p114f) || (bits & 0x1fff) != 0) return "has a step that no encoder chose";
  for (bf16& mean : q.means) {
    mean = bf16::from_bits(from.get<std::uint16_t>());
    if (!(std::abs(float(mean)) <= 0x1p120f)) return "has a mean that no encoder chose";
  }
  const auto exponents = from.take(q.exponents.size());
  if (from.failed) return "ends too early";
  std::copy(exponents.begin(), exponents.end(), q.exponents.begin());
  for (Index c = 0; c < channels; ++c)  // or what is decoded may be infinite
    if (const ChannelGrid grid = q.grid(c); std::max(grid.anchor_step, grid.delta_step) > 0x1p114f)
      return "has a step that no encoder chose";
  const char* wrong = decode_symbols(from, channels, of.anchors(), q.anchors.data());
  if (wrong == nullptr) wrong = decode_symbols(from, channels, of.deltas(), q.deltas.data());
  return wrong != nullptr || from.left.empty() ? wrong : "goes on after its end";
}

}  // namespace tessera::inline TESSERA_ABI::kv::detail
