/// Block-quantized matrices as operators: owning (`Quantized`) and over someone else's blocks (`QuantizedView`).
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>

#include <tessera/core/buffer.hpp>
#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>
#include <tessera/expr/expr.hpp>
#include <tessera/matrix/quantized_operator.hpp>
#include <tessera/quant/formats.hpp>
#include <tessera/quant/quantizers/round_to_nearest.hpp>

namespace tessera::inline TESSERA_ABI {

/// A matrix of its own in blocks of format F, 16 rows interleaved as the kernels read them. Only the codes and scales
/// are held, rows padded to a multiple of 16 and columns to one of block_size; they never change, and copies share
/// them.
template <PanelFormat F>
class Quantized : public detail::QuantizedOperator<Quantized<F>, F> {
  using Panel = PanelLayout<F>;

 public:
  using Block = typename F::Block;

  Quantized() : Quantized(0, 0) {}

  /// From (cols + block_size - 1) / block_size blocks a row, row after row, as files hold them. Throws shape_error for
  /// another number.
  Quantized(Index rows, Index cols, std::span<const Block> blocks) : Quantized(rows, cols) {
    const Index each = view().row_blocks();
    if (static_cast<Index>(blocks.size()) != rows * each)
      throw shape_error(detail::concat("tessera: Quantized<", F::name, "> ", detail::shape_text(rows, cols), " from ",
                                       blocks.size(), " blocks: expected ", rows * each));
    for (Index panel = 0; panel < panels(rows); panel += panel_pair) {
      const Index at = panel * each;
      detail::interleave_panels<F>(blocks.data(), rows, each, panel * panel_rows,
                                   std::min(panel_pair, panels(rows) - panel), store_->codes.data() + at * Panel::codes,
                                   store_->side.data() + at * Panel::side);
    }
  }

  /// `f(row, block, Block&)` fills every block, in any order, from `ctx`'s threads.
  template <class Fill>
  static Quantized generate(Context& ctx, Index rows, Index cols, Fill&& f) {
    Quantized made(rows, cols);
    const Index each = made.view().row_blocks();
    Store& store = *made.store_;
    for_each_chunk(ctx, panels(rows), Index{1}, [&](Context&, Index panel, Index) {
      for (Index r = 0; r < panel_rows; ++r)
        for (Index b = 0; b < each; ++b) {
          Block block{};
          if (panel * panel_rows + r < rows) f(panel * panel_rows + r, b, block);
          detail::store_in_panel<F>(block, r, {panel, b, panels(rows), each}, store.codes.data(), store.side.data());
        }
    });
    return made;
  }

  BlockView<F> view() const {
    BlockView<F> view;
    view.codes = store_->codes.data();
    view.side = store_->side.data();
    view.layout = BlockLayout::panels;
    view.rows = rows_;
    view.cols = cols_;
    return view;
  }
  /// Memory held for codes and scales.
  std::size_t bytes() const { return store_->codes.bytes() + store_->side.bytes(); }
  template <class Visit>
  void for_each_buffer(Visit&& visit) const {
    visit(ByteRange{store_->codes.begin(), store_->codes.end()});
    visit(ByteRange{store_->side.begin(), store_->side.end()});
  }

 private:
  struct Store {
    Buffer<std::uint8_t> codes;
    Buffer<std::uint8_t> side;
  };

  static Index panels(Index rows) { return (rows + panel_rows - 1) / panel_rows; }

  Quantized(Index rows, Index cols) : rows_(rows), cols_(cols) {
    constexpr Index most = std::numeric_limits<Index>::max() / 512;
    if (rows < 0 || cols < 0 || rows > most || cols > most || (rows > 0 && cols > most / (rows + panel_rows)))
      throw shape_error(detail::concat("tessera: Quantized<", F::name, "> (", rows, ", ", cols,
                                       "): expected sizes from 0 whose product fits"));
    const Index blocks = panels(rows) * ((cols + F::block_size - 1) / F::block_size);
    store_ = std::make_shared<Store>(Store{Buffer<std::uint8_t>(blocks * Panel::codes, uninitialized),
                                           Buffer<std::uint8_t>(blocks * Panel::side, uninitialized)});
  }

  std::shared_ptr<Store> store_;
  Index rows_, cols_;
};

/// Someone else's blocks, row after row of (cols + block_size - 1) / block_size, as files hold them; not copied.
/// Kernels interleave 16 rows
/// at a time into scratch as they go: slower than Quantized, the same results.
template <PanelFormat F>
class QuantizedView : public detail::QuantizedOperator<QuantizedView<F>, F> {
 public:
  using Block = typename F::Block;
  static constexpr bool is_view = true;  // expressions copy it

  /// Throws shape_error for another number of blocks.
  QuantizedView(Index rows, Index cols, std::span<const Block> blocks) {
    view_.blocks = blocks.data();
    view_.rows = rows;
    view_.cols = cols;
    constexpr Index most = std::numeric_limits<Index>::max() - F::block_size;
    if (rows < 0 || cols < 0 || cols > most || (rows > 0 && view_.row_blocks() > most / rows) ||
        static_cast<Index>(blocks.size()) != rows * view_.row_blocks())
      throw shape_error(detail::concat("tessera: QuantizedView<", F::name, "> ", detail::shape_text(rows, cols),
                                       " over ", blocks.size(), " blocks: expected one for each ", F::block_size,
                                       " columns of a row"));
  }
  BlockView<F> view() const { return view_; }
  std::size_t bytes() const { return static_cast<std::size_t>(this->rows() * view_.row_blocks()) * sizeof(Block); }
  template <class Visit>
  void for_each_buffer(Visit&& visit) const {
    visit(ByteRange{view_.blocks, view_.blocks + this->rows() * view_.row_blocks()});
  }

 private:
  BlockView<F> view_;
};

/// W (M,K) in blocks of F: `auto Wq = quantize<Q4_0>(ctx, W)`. O(MK) (times the quantizer's candidates).
/// A block with a value that is not finite decodes to NaN. `quantizer` is a BlockQuantizer for F.
template <PanelFormat F, class Quantizer = RoundToNearest>
requires BlockQuantizer<Quantizer, F> Quantized<F> quantize(Context& ctx, MatrixView<const float> W,
                                                            const Quantizer& quantizer = {}) {
  return Quantized<F>::generate(ctx, W.rows(), W.cols(), [&](Index row, Index b, typename F::Block& block) {
    std::array<float, F::block_size> values{};
    const Index first = b * F::block_size, count = std::min(F::block_size, W.cols() - first);
    for (Index i = 0; i < count; ++i) values[static_cast<std::size_t>(i)] = W(row, first + i);
    quantizer.template encode<F>(values, block);
  });
}

}  // namespace tessera::inline TESSERA_ABI
