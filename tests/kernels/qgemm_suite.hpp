/// What the tests of qgemm share: weights in both layouts, and every kernel against the reference.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <span>
#include <string>
#include <tessera/kernels/qgemm/qgemm.hpp>
#include <tessera/quant/formats.hpp>
#include <vector>

#include "support/oracle.hpp"

namespace tessera::test {

struct FormatNames {
  template <class F>
  static std::string GetName(int) {
    return std::string(F::name);
  }
};

/// Scales of both signs in a block of random bytes, all finite.
template <class F>
void set_ordinary(typename F::Block& block, const Philox& draws, std::uint64_t& at) {
  using P = PanelLayout<F>;
  if constexpr (P::scale == PanelScale::half) detail::set_block_d<F>(block, f16((draws.uniform(at++) - 0.3f) * 0.1f));
  if constexpr (P::scale == PanelScale::power)
    block.e = static_cast<std::uint8_t>(F::exponent_bias - 10 + static_cast<int>(draws.bits(at++) % 10));
  if constexpr (P::scale == PanelScale::single) block.absmax = draws.uniform(at++);
  if constexpr (P::scale == PanelScale::ranged) {
    block.low = draws.uniform(at++) * 0.1f;
    block.step = draws.uniform(at++) * 0.01f;
  }
  if constexpr (P::by_16)
    for (auto& s : block.s) s = s % 128 == 127 ? 1 : s;
  if constexpr (P::code == PanelCode::number)
    for (auto& q : block.qs)
      if (!std::isfinite(float(F::Element::from_bits(q)))) q ^= 0x40;
  if constexpr (requires { block.m; }) block.m = f16(draws.uniform(at++) - 0.6f);
  if constexpr (requires { block.dmin; }) block.dmin = f16(draws.uniform(at++) - 0.4f);
}

/// Scales at the edges of what their types hold; those that are bytes stay as they are.
template <class F>
void set_extreme(typename F::Block& block, Index i) {
  using P = PanelLayout<F>;
  [[maybe_unused]] const auto single = [](Index n) { return n % 5 == 0 ? 3e38f : static_cast<float>(n) * 0x1p-140f; };
  if constexpr (P::scale == PanelScale::half)  // subnormal, and the largest
    detail::set_block_d<F>(block, f16::from_bits(i % 5 == 0 ? 0x7bffu : static_cast<std::uint32_t>(i * 37 % 2048)));
  if constexpr (P::scale == PanelScale::power) block.e = static_cast<std::uint8_t>(i < 4 ? i : i < 8 ? 246 + i : 120);
  if constexpr (P::scale == PanelScale::single) block.absmax = single(i);
  if constexpr (P::scale == PanelScale::ranged) {
    block.low = single(i);
    block.step = single(i + 2) * 0x1p-10f;
  }
  if constexpr (requires { block.m; }) block.m = f16::from_bits(static_cast<std::uint32_t>(i * 91 % 2048) | 0x8000u);
  if constexpr (requires { block.dmin; }) block.dmin = f16::from_bits(static_cast<std::uint32_t>(i * 91 % 2048));
}

/// False if no block of F is anything but finite.
template <class F>
bool set_not_finite(typename F::Block& block, float value) {
  using P = PanelLayout<F>;
  if constexpr (P::scale == PanelScale::half) detail::set_block_d<F>(block, f16(value));
  if constexpr (P::scale == PanelScale::power) block.e = 255;
  if constexpr (P::scale == PanelScale::single) block.absmax = value;
  if constexpr (P::scale == PanelScale::ranged) block.low = value;
  if constexpr (P::by_16) block.s[1] = 0x7f;
  if constexpr (P::scale == PanelScale::one && P::code == PanelCode::number)
    block.qs[1] = static_cast<std::uint8_t>(typename F::Element(value).bits);
  return P::scale != PanelScale::one || P::code == PanelCode::number;
}

/// A weight matrix with every code, scales of both signs and integer scales of any value, in both layouts.
template <class F>
struct Weights {
  using P = PanelLayout<F>;
  Index rows, cols, each;
  Buffer<typename F::Block> blocks;
  Buffer<std::uint8_t> codes, side;

  Weights(Index m, Index k, std::uint64_t seed)
      : rows(m), cols(k), each((k + F::block_size - 1) / F::block_size), blocks(m * each) {
    const Philox draws(seed);
    std::uint64_t at = 0;
    for (auto& block : blocks) {
      for (auto& byte : bytes(block)) byte = static_cast<std::uint8_t>(draws.bits(at++) & 0xff);
      set_ordinary<F>(block, draws, at);
    }
    interleave();
  }
  static std::span<std::uint8_t> bytes(typename F::Block& block) {
    return {reinterpret_cast<std::uint8_t*>(&block), sizeof block};
  }
  Index panels_of_rows() const { return (rows + panel_rows - 1) / panel_rows; }
  void interleave() {
    const Index panels = panels_of_rows();
    codes = Buffer<std::uint8_t>(panels * each * P::codes);
    side = Buffer<std::uint8_t>(panels * each * P::side);
    for (Index p = 0; p < panels; p += panel_pair)
      detail::interleave_panels<F>(blocks.data(), rows, each, p * panel_rows, std::min(panel_pair, panels - p),
                                   codes.data() + p * each * P::codes, side.data() + p * each * P::side);
  }
  BlockView<F> panels() const { return {nullptr, codes.data(), side.data(), BlockLayout::panels, rows, cols}; }
  BlockView<F> stored() const { return {blocks.data(), nullptr, nullptr, BlockLayout::rows, rows, cols}; }
};

/// (rows, cols) with room around it, at chosen strides and an odd offset.
struct Operand {
  Buffer<float> memory;
  MatrixView<float> view;
  Operand(Index rows, Index cols, bool column_major, Index gap, Index offset, std::uint64_t seed)
      : memory(test::random_buffer<float>(2 * (rows + gap + 1) * (cols + gap + 1) + offset, seed)) {
    view = column_major ? MatrixView<float>(memory.data() + offset, {rows, cols}, {1, rows + gap})
                        : MatrixView<float>(memory.data() + offset, {rows, cols}, {cols + gap, 1});
  }
};

inline bool same_bits(float a, float b) {
  return (std::isnan(a) && std::isnan(b)) || std::memcmp(&a, &b, sizeof a) == 0;
}

inline ::testing::AssertionResult same(const Buffer<float>& a, const Buffer<float>& b) {
  for (Index i = 0; i < a.size(); ++i)
    if (!same_bits(a[i], b[i])) return ::testing::AssertionFailure() << a[i] << " != " << b[i] << " at " << i;
  return ::testing::AssertionSuccess();
}

template <class F>
std::vector<std::string> kernels() {
  std::vector<std::string> names;
  for (const auto& entry : QgemmKernels<F>::template entries<QgemmArgs>())
    if (entry.accepts(QgemmArgs{})) names.emplace_back(entry.name);
  return names;
}
inline std::vector<std::string> rounding_kernels() {
  std::vector<std::string> names;
  for (const auto& entry : QuantizeActivationsKernels::entries<QuantizeActivationsArgs>())
    if (entry.accepts(QuantizeActivationsArgs{})) names.emplace_back(entry.name);
  return names;
}

/// Runs all kernels on copies of Y and compares every float of its memory, gaps included, with the reference's.
template <class F>
void expect_all_equal(const Weights<F>& W, const Operand& X, const Operand& Y, float alpha, float beta) {
  Context reference;
  reference.force("qgemm:ref");
  reference.force("quantize_activations:ref");
  Operand expected = Y;
  const auto in = [&](Operand& o) {
    return MatrixView<float>(o.memory.data() + (Y.view.data() - Y.memory.data()), Y.view.extents(), Y.view.strides());
  };
  qgemm(reference, alpha, W.panels(), X.view, beta, in(expected));
  for (const std::string& name : kernels<F>())
    for (const bool panels : {true, false}) {
      Context ctx;
      ctx.force(name);
      Operand got = Y;
      qgemm(ctx, alpha, panels ? W.panels() : W.stored(), X.view, beta, in(got));
      ASSERT_TRUE(same(expected.memory, got.memory))
          << name << (panels ? " panels" : " rows") << " M=" << W.rows << " K=" << W.cols << " N=" << X.view.cols()
          << " alpha=" << alpha << " beta=" << beta;
    }
}

}  // namespace tessera::test
