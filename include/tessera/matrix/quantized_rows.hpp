/// Block-quantized matrices with a scale, and a minimum or none, for each row or for the whole matrix.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include <tessera/core/buffer.hpp>
#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>
#include <tessera/matrix/quantized.hpp>
#include <tessera/quant/formats/unit.hpp>

namespace tessera::inline TESSERA_ABI {

/// diag(scale) W + minimum 1^T, W in blocks of F: `Integers<4>` with a scale a row is int4 per channel, with one scale
/// int4 per tensor, `FP8_E4M3` the same in FP8. Scales multiply sums, not codes: 2·M·K·N operations of W and M·N more.
/// Copies share the memory.
template <PanelFormat F>
class ScaledRows : public detail::QuantizedOperator<ScaledRows<F>, F> {
 public:
  ScaledRows() = default;

  /// scales (M) or (1), minima of as many or none. Throws shape_error for other numbers.
  ScaledRows(Quantized<F> W, std::span<const float> scales, std::span<const float> minima = {})
      : codes_(std::move(W)), factors_(std::make_shared<Store>()) {
    const Index m = codes_.rows(), n = static_cast<Index>(scales.size());
    if ((n != m && n != 1) || (!minima.empty() && minima.size() != scales.size()))
      throw shape_error(detail::concat("tessera: ScaledRows<", F::name, "> ", detail::shape_text(m, codes_.cols()),
                                       " with ", n, " scales and ", minima.size(), " minima: expected ", m,
                                       " or 1 scales, as many minima or none"));
    factors_->scales = Buffer<float>(n);
    factors_->minima = Buffer<float>(static_cast<Index>(minima.size()));
    std::copy(scales.begin(), scales.end(), factors_->scales.begin());
    std::copy(minima.begin(), minima.end(), factors_->minima.begin());
  }

  BlockView<F> view() const {
    BlockView<F> view = codes_.view();
    if (factors_ == nullptr) return view;
    view.factors.scale = factors_->scales.data();
    view.factors.minimum = factors_->minima.size() == 0 ? nullptr : factors_->minima.data();
    view.factors.step = factors_->scales.size() == 1 ? 0 : 1;
    return view;
  }
  std::string describe() const {
    return detail::concat("ScaledRows<", F::name, "> ", detail::shape_text(this->rows(), this->cols()));
  }
  std::size_t bytes() const {
    return codes_.bytes() + (factors_ == nullptr ? 0 : factors_->scales.bytes() + factors_->minima.bytes());
  }
  template <class Visit>
  void for_each_buffer(Visit&& visit) const {
    codes_.for_each_buffer(visit);
    if (factors_ == nullptr) return;
    visit(ByteRange{factors_->scales.begin(), factors_->scales.end()});
    visit(ByteRange{factors_->minima.begin(), factors_->minima.end()});
  }

 private:
  struct Store {
    Buffer<float> scales, minima;
  };
  Quantized<F> codes_;
  std::shared_ptr<Store> factors_;
};

/// What shares a scale (and a minimum).
enum class ScaleOf { row, tensor };

namespace detail {

/// A scale and a minimum for values between low and high.
template <class F>
void fit_row(float low, float high, bool range, float& scale, float& minimum) {
  minimum = 0;
  const float most = high > -low ? high : low;
  if constexpr (PanelLayout<F>::code == PanelCode::number) {
    scale = std::abs(most) / float(std::numeric_limits<typename F::Element>::max());
  } else if (range) {
    scale = (high - low) / static_cast<float>((1 << F::bits) - 1);
    minimum = low + scale * static_cast<float>(1 << (F::bits - 1));
  } else if (F::bits == 8) {
    scale = std::abs(most) / 127;
  } else {
    scale = most / -static_cast<float>(1 << (F::bits - 1));  // the greatest magnitude takes the lowest level
  }
}

}  // namespace detail

/// W (M,K) in codes of F to nearest, `Integers<2>` .. `Integers<8>`, `FP8_E4M3` or `FP8_E5M2`. A row with a value that
/// is not finite becomes NaN (the whole matrix under ScaleOf::tensor). `range`: integers between the least and the
/// greatest value, with minima; else scales alone. O(MK).
template <PanelFormat F>
requires(PanelLayout<F>::scale == PanelScale::one) ScaledRows<F> quantize_rows(Context& ctx, MatrixView<const float> W,
                                                                               ScaleOf scale_of = ScaleOf::row,
                                                                               bool range = false) {
  const Index groups = scale_of == ScaleOf::row ? W.rows() : 1;
  Buffer<float> scales(groups), minima(groups);
  for (Index g = 0; g < groups && !W.empty(); ++g) {
    const MatrixView<const float> part = groups == W.rows() ? W.slice(0, g, 1) : W;
    float low = part(0, 0), high = low;
    bool finite = true;
    for (Index i = 0; i < part.rows(); ++i)
      for (Index j = 0; j < part.cols(); ++j) {
        low = std::min(low, part(i, j));
        high = std::max(high, part(i, j));
        finite = finite && part(i, j) - part(i, j) == 0;
      }
    detail::fit_row<F>(low, high, range, scales[g], minima[g]);
    if (!finite) scales[g] = std::numeric_limits<float>::quiet_NaN();
  }
  auto codes = Quantized<F>::generate(ctx, W.rows(), W.cols(), [&](Index row, Index b, typename F::Block& block) {
    std::array<float, F::block_size> values{};
    const Index first = b * F::block_size, count = std::min(F::block_size, W.cols() - first);
    const float d = scales[groups == W.rows() ? row : 0], m = minima[groups == W.rows() ? row : 0];
    if (d != 0 && d == d)
      for (Index i = 0; i < count; ++i) values[static_cast<std::size_t>(i)] = (W(row, first + i) - m) / d;
    F::encode(values, block);
  });
  const std::span<const float> offsets(minima.data(), range ? static_cast<std::size_t>(groups) : 0);
  return ScaledRows<F>(std::move(codes), std::span<const float>(scales.data(), static_cast<std::size_t>(groups)),
                       offsets);
}

}  // namespace tessera::inline TESSERA_ABI
