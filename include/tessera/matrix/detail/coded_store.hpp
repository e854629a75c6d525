/// Blocks of 8 or 4-bit integers with a scale a row, and how they are made.
#pragma once

#include <concepts>
#include <limits>
#include <memory>

#include <tessera/core/buffer.hpp>
#include <tessera/kernels/monarch/coded.hpp>
#include <tessera/quant/formats/unit.hpp>

namespace tessera::inline TESSERA_ABI {

/// What the blocks of a structured matrix may be held in: integers of 8 or 4 bits with a scale for each row of a block.
template <class F>
concept CodedFormat = std::same_as<F, Integers<8>> || std::same_as<F, Integers<4>>;

namespace detail {

/// Owns what CodedBlocks shows. Copies share it.
template <CodedFormat F>
class CodedStore {
 public:
  using Blocks = CodedBlocks<F::bits>;

  CodedStore() = default;
  /// Every row of every block of W (blocks, rows, cols) to the nearest multiple of its scale: its greatest magnitude
  /// over 127, or, of 4 bits, the value of greatest magnitude over -8. A row with a value that is not finite is NaN.
  template <class P>
  CodedStore(Context& ctx, View<const P, 3> W) {
    Blocks& all = blocks_;
    all.blocks = W.extent(0);
    all.rows = W.extent(1);
    all.cols = W.extent(2);
    store_ = std::make_shared<Store>();
    store_->codes = Buffer<std::uint8_t>(all.blocks * all.block_bytes());
    store_->scales = Buffer<float>(all.blocks * all.padded());
    all.codes = store_->codes.data();
    all.scales = store_->scales.data();
    for_each_chunk(ctx, all.blocks, Index{1}, [&](Context&, Index b, Index) {
      for (Index i = 0; i < all.rows; ++i) encode_row(W[b], i, b);
    });
  }

  const Blocks& blocks() const { return blocks_; }
  std::size_t bytes() const { return store_ ? store_->codes.bytes() + store_->scales.bytes() : 0; }
  template <class Visit>
  void for_each_buffer(Visit&& visit) const {
    if (!store_) return;
    visit(ByteRange{store_->codes.begin(), store_->codes.end()});
    visit(ByteRange{store_->scales.begin(), store_->scales.end()});
  }
  /// to (blocks, rows, cols) = the values that the codes stand for.
  void decode(View<float, 3> to) const {
    for (Index b = 0; b < blocks_.blocks; ++b)
      for (Index k = 0; k < blocks_.cols; ++k)
        for (Index i = 0; i < blocks_.rows; ++i) to(b, i, k) = blocks_.value(b, i, k);
  }
  /// As a stage of monarch_stages.
  auto stage(Context& ctx) const {
    return [&ctx, blocks = blocks_](Op op, float alpha, View<const float, 3> B, float beta, View<float, 3> C) {
      coded_stage(ctx, op, alpha, blocks, B, beta, C);
    };
  }

 private:
  struct Store {
    Buffer<std::uint8_t> codes;
    Buffer<float> scales;
  };

  template <class W>
  void encode_row(const W& block, Index i, Index b) {
    constexpr float limit = static_cast<float>(1 << (F::bits - 1));
    float most = 0;
    bool finite = true;
    for (Index k = 0; k < blocks_.cols; ++k) {
      const float w = static_cast<float>(block(i, k));
      finite = finite && w - w == 0;
      if ((w < 0 ? -w : w) > (most < 0 ? -most : most)) most = w;
    }
    const float scale = F::bits == 8 ? (most < 0 ? -most : most) / (limit - 1) : most / -limit;
    store_->scales[b * blocks_.padded() + i] = finite ? scale : std::numeric_limits<float>::quiet_NaN();
    if (!finite || scale == 0) return;
    std::uint8_t* line = store_->codes.data() + b * blocks_.block_bytes();
    for (Index k = 0; k < blocks_.cols; ++k, line += blocks_.line_bytes())
      Blocks::set_code(line, i, nearest_code(static_cast<float>(block(i, k)), scale, -limit, limit - 1));
  }

  Blocks blocks_;
  std::shared_ptr<Store> store_;
};

}  // namespace detail
}  // namespace tessera::inline TESSERA_ABI
