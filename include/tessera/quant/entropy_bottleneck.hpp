/// An entropy bottleneck: latents to integers, with a learned prior that tells their rate and codes them.
/// Y. Matsubara et al., "Supervised Compression for Resource-Constrained Edge Computing Systems" (2022), §3; the prior
/// is that of J. Ballé et al., "Variational Image Compression with a Scale Hyperprior" (2018), §6.1.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <span>
#include <vector>

#include <tessera/core/buffer.hpp>
#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kernels/map/map.hpp>
#include <tessera/quant/factorized_prior.hpp>
#include <tessera/quant/range_coder.hpp>

namespace tessera::inline TESSERA_ABI {

/// Latents Y (C,n), a row a channel, any strides. In training: `noisy` values and `rate` with its gradients; in use:
/// `compress` codes round(y), `decompress` gives it back exactly.
class EntropyBottleneck {
 public:
  static constexpr Index parameters_of_channel = detail::PriorLayers::parameters;

  /// Every channel's prior spread over about `scale` to each side of 0, biases drawn from `seed`. Throws shape_error
  /// for a negative number of channels, unsupported_error unless the scale is from 1e-10 to 1e30.
  explicit EntropyBottleneck(Index channels, float scale = 10, std::uint64_t seed = 0)
      : channels_(channels), parameters_(checked_parameters(channels, scale)) {
    const Philox draws(seed);
    const double each = std::pow(static_cast<double>(scale), 1.0 / L::layers);
    for (Index c = 0; c < channels; ++c)
      for (int k = 0; k < L::layers; ++k)
        for (int i = L::matrix(k); i < L::gain(k); ++i) {
          const Index at = c * parameters_of_channel + i;
          parameters_[at] = i < L::bias(k) ? static_cast<float>(std::log(std::expm1(1 / each / L::w(k + 1))))
                                           : draws.uniform(static_cast<std::uint64_t>(at)) - 0.5f;
        }
  }

  Index channels() const { return channels_; }
  /// Channel after channel; any values are a distribution.
  std::span<float> parameters() { return {parameters_.begin(), static_cast<std::size_t>(parameters_.size())}; }
  std::span<const float> parameters() const {
    return {parameters_.begin(), static_cast<std::size_t>(parameters_.size())};
  }

  /// out = Y + U(-1/2, 1/2), which stands for rounding in training; its gradient is the identity. Draw i of the stream
  /// (seed, step) goes to value i.
  void noisy(Context& ctx, MatrixView<const float> Y, std::uint64_t seed, std::uint64_t step,
             MatrixView<float> out) const {
    check("noisy", Y, out);
    const Philox draws(seed, step);
    for_each_chunk(ctx, channels_, 1, [&](Context&, Index c, Index) {
      for (Index i = 0; i < Y.cols(); ++i)
        out(c, i) = Y(c, i) + draws.uniform(static_cast<std::uint64_t>(c * Y.cols() + i)) - 0.5f;
    });
  }

  /// The bits of all values, Σ -log2 P_c(y ± 1/2); dY = weight times their derivatives where it has data. Values
  /// beyond the prior count 40 bits. Throws shape_error.
  template <class = void>
  double rate(Context& ctx, MatrixView<const float> Y, float weight = 0, MatrixView<float> dY = {}) const {
    check("rate", Y, dY.data() == nullptr ? Y : MatrixView<const float>(dY));
    constexpr Index most = 1024;
    Buffer<double> sums(channels_);
    for_each_chunk(ctx, channels_, 1, [&](Context& worker, Index c, Index) {
      const auto numbers = detail::prior_numbers<float>(channel(c));
      const detail::PriorBits<float> f{numbers.data()};
      float bits[most], slope[most];
      for (Index first = 0; first < Y.cols(); first += most) {
        const Index count = std::min(most, Y.cols() - first);
        map(worker, f, VectorView<float>(bits, count), VectorView<float>(slope, count),
            Y.row(c).slice(0, first, count));
        for (Index i = 0; i < count; ++i) sums[c] += static_cast<double>(bits[i]);
        if (dY.data() != nullptr)
          for (Index i = 0; i < count; ++i) dY(c, first + i) = weight * slope[i];
      }
    });
    double sum = 0;
    for (const double s : sums) sum += s;
    return sum;
  }

  /// dparameters += weight · ∂ rate / ∂ parameters. In double, one value after another. Throws shape_error.
  void rate_backward(Context& ctx, MatrixView<const float> Y, float weight, std::span<float> dparameters) const {
    check("rate_backward", Y, Y);
    if (dparameters.size() != parameters().size())
      throw shape_error(detail::concat("tessera: EntropyBottleneck::rate_backward into ", dparameters.size(),
                                       " gradients; expected ", parameters().size()));
    for_each_chunk(ctx, channels_, 1, [&](Context&, Index c, Index) {
      const auto p = detail::prior_numbers<double>(channel(c));
      detail::PriorNumbers<double> grad{};
      for (Index i = 0; i < Y.cols(); ++i) {
        const double y = static_cast<double>(Y(c, i));
        detail::PriorTrace low, high;
        const double l = low.run(p, y - 0.5), h = high.run(p, y + 0.5), flip = l + h > 0 ? -1 : 1;
        const double a = logistic(flip * l), b = logistic(flip * h);
        const double size = -std::numbers::log2e / std::max(std::abs(b - a), 0x1p-40);
        high.back(p, size * b * (1 - b), grad);
        low.back(p, -size * a * (1 - a), grad);
      }
      finish_gradient(c, p, grad, weight, dparameters);
    });
  }

  /// round(Y) as bytes: within a per cent or so of rate(round(Y)), and 4 bytes. Values are clamped to ±2^30; NaN
  /// counts as 0. `decompress` needs the same parameters, and the same <cmath>. Throws shape_error.
  std::vector<std::uint8_t> compress(Context& ctx, MatrixView<const float> Y) const {
    check("compress", Y, Y);
    const auto tables = all_tables(ctx);
    RangeEncoder encoder;
    for (Index c = channels_; c-- > 0;)
      for (Index i = Y.cols(); i-- > 0;) {
        const Table& table = tables[static_cast<std::size_t>(c)];
        const auto symbol = static_cast<std::int32_t>(rounded(Y(c, i)));
        const std::int64_t at = std::int64_t{symbol} - table.low;
        if (at >= 0 && at < table.escape()) {
          encoder.push(table.interval(static_cast<std::size_t>(at)));
        } else {
          const auto word = static_cast<std::uint32_t>(symbol);
          encoder.push({word & 0xffffu, 1});
          encoder.push({word >> 16, 1});
          encoder.push(table.interval(static_cast<std::size_t>(table.escape())));
        }
      }
    return std::move(encoder).finish();
  }
  /// Into Y (C,n). Throws shape_error, and format_error for bytes that end too early or are not all needed.
  void decompress(Context& ctx, std::span<const std::uint8_t> bytes, MatrixView<float> Y) const {
    check("decompress", Y, Y);
    const auto tables = all_tables(ctx);
    RangeDecoder decoder(bytes);
    const auto word = [&] {
      const std::uint32_t w = decoder.peek();
      decoder.pop({w, 1});
      return w;
    };
    for (Index c = 0; c < channels_; ++c)
      for (Index i = 0; i < Y.cols(); ++i) {
        const Table& table = tables[static_cast<std::size_t>(c)];
        const auto after = std::upper_bound(table.begin.begin(), table.begin.end(), decoder.peek());
        const auto at = static_cast<std::size_t>(after - table.begin.begin()) - 1;
        decoder.pop(table.interval(at));
        if (static_cast<std::int64_t>(at) < table.escape()) {
          Y(c, i) = static_cast<float>(table.low + static_cast<std::int64_t>(at));
        } else {
          const std::uint32_t high = word();
          Y(c, i) = static_cast<float>(static_cast<std::int32_t>(high << 16 | word()));
        }
      }
    if (!decoder.finished())
      throw format_error(detail::concat("tessera: EntropyBottleneck::decompress of ", bytes.size(), " bytes into (",
                                        detail::shape_text(Y.rows(), Y.cols()),
                                        "): expected the code to end with the last value"));
  }
  /// What decompress gives back of y.
  static float rounded(float y) { return y != y ? 0.0f : std::nearbyint(std::clamp(y, -0x1p30f, 0x1p30f)); }

  /// The prior's cumulative distribution of a channel at x.
  double cumulative(Index channel_index, double x) const {
    const auto p = detail::prior_numbers<double>(channel(channel_index));
    return logistic(detail::PriorTrace().run(p, x));
  }

 private:
  using L = detail::PriorLayers;

  /// Of one channel: shares of the symbols low, low + 1, …, and of all others together, the last.
  struct Table {
    std::int64_t low = 0;
    std::vector<std::uint32_t> begin;  // of the symbols, of the escape, and range_total
    std::int64_t escape() const { return static_cast<std::int64_t>(begin.size()) - 2; }
    RangeInterval interval(std::size_t i) const { return {begin[i], begin[i + 1] - begin[i]}; }
  };

  static Index checked_parameters(Index channels, float scale) {
    Index all = 0;
    if (channels < 0 || __builtin_mul_overflow(channels, parameters_of_channel, &all))
      throw shape_error(detail::concat("tessera: EntropyBottleneck of ", channels, " channels: expected 0 or more"));
    if (!(scale >= 1e-10f && scale <= 1e30f))
      throw unsupported_error(
          detail::concat("tessera: EntropyBottleneck of scale ", scale, ": expected 1e-10 to 1e30"));
    return all;
  }
  static double logistic(double u) { return 1 / (1 + std::exp(-u)); }
  std::span<const float> channel(Index c) const {
    return parameters().subspan(static_cast<std::size_t>(c * parameters_of_channel),
                                static_cast<std::size_t>(parameters_of_channel));
  }

  /// From H, b, a to what is held.
  void finish_gradient(Index c, const detail::PriorNumbers<double>& p, const detail::PriorNumbers<double>& grad,
                       float weight, std::span<float> out) const {
    for (int k = 0; k < L::layers; ++k)
      for (int i = L::matrix(k); i < L::matrix(k) + L::per(k); ++i) {
        const double v = detail::PriorTrace::at(p, i), g = detail::PriorTrace::at(grad, i);
        const double inner = i < L::bias(k) ? -std::expm1(-v) : i < L::gain(k) || k + 1 == L::layers ? 1 : 1 - v * v;
        out[static_cast<std::size_t>(c * parameters_of_channel + i)] +=
            static_cast<float>(static_cast<double>(weight) * g * inner);
      }
  }

  std::vector<Table> all_tables(Context& ctx) const {
    std::vector<Table> tables(static_cast<std::size_t>(channels_));
    for_each_chunk(ctx, channels_, 1,
                   [&](Context&, Index c, Index) { tables[static_cast<std::size_t>(c)] = table(c); });
    return tables;
  }

  /// The 2048 symbols around the median at most, as far as 2^-18 of either tail.
  Table table(Index c) const {
    const auto p = detail::prior_numbers<double>(channel(c));
    const auto logit = [&](double x) { return detail::PriorTrace().run(p, x); };
    double from = -0x1p20, to = 0x1p20;
    while (to - from > 0.25) (logit((from + to) / 2) < 0 ? from : to) = (from + to) / 2;
    const double median = std::nearbyint(from), tail = std::log(0x1p-18);
    double low = median, high = median;
    while (median - low < 1024 && logit(low - 0.5) > tail) --low;
    while (high - median < 1023 && logit(high + 0.5) < -tail) ++high;
    Table result{static_cast<std::int64_t>(low), {0}};
    const auto count = static_cast<std::size_t>(high - low) + 1;
    std::vector<std::uint32_t> sizes(count + 1, 1);  // each at least 1, the rest by probability
    const double spare = static_cast<double>(range_total) - static_cast<double>(count + 1);
    std::uint32_t left = range_total - static_cast<std::uint32_t>(count + 1);
    for (std::size_t s = 0; s < count; ++s) {
      const double y = low + static_cast<double>(s), l = logit(y - 0.5), h = logit(y + 0.5), flip = l + h > 0 ? -1 : 1;
      const double share = std::abs(logistic(flip * h) - logistic(flip * l));
      const auto more = std::min(left, static_cast<std::uint32_t>(share * spare));
      sizes[s] += more;
      left -= more;
    }
    *std::max_element(sizes.begin(), sizes.end()) += left;
    for (const std::uint32_t size : sizes) result.begin.push_back(result.begin.back() + size);
    return result;
  }

  void check(const char* what, MatrixView<const float> Y, MatrixView<const float> other) const {
    if (Y.rows() != channels_ || other.rows() != Y.rows() || other.cols() != Y.cols())
      throw shape_error(detail::concat("tessera: EntropyBottleneck::", what, " of (",
                                       detail::shape_text(Y.rows(), Y.cols()), ") and (",
                                       detail::shape_text(other.rows(), other.cols()), "): expected ", channels_,
                                       " rows, a channel each, and one shape"));
  }

  Index channels_;
  Buffer<float> parameters_;
};

}  // namespace tessera::inline TESSERA_ABI
