/// Rows in the coordinates of another basis.
#pragma once

#include <concepts>
#include <utility>

#include <tessera/core/context.hpp>
#include <tessera/core/view.hpp>
#include <tessera/expr/concepts.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// A row x of d = channels() numbers becomes c = encode(x) of width() numbers and is read as decode(c), a linear map;
/// absorb is its adjoint: q·decode(c) = absorb(q)·c. All take rows.
template <class M>
concept ChannelMap = std::copyable<M> &&
    requires(const M& map, Context& ctx, MatrixView<const float> in, MatrixView<float> out) {
  { map.channels() } -> std::convertible_to<Index>;
  { map.width() } -> std::convertible_to<Index>;
  map.encode(ctx, in, out);  // (n, d) -> (n, width)
  map.decode(ctx, in, out);  // (n, width) -> (n, d)
  map.absorb(ctx, in, out);  // (n, d) -> (n, width)
};

/// Coordinates of an operator R (width, d) with orthonormal rows: c = R x, read as Rᵀ c.
template <LinearOperator R>
class OrthogonalMap {
 public:
  explicit OrthogonalMap(R rotation) : rotation_(std::move(rotation)) {}

  Index channels() const { return rotation_.cols(); }
  Index width() const { return rotation_.rows(); }
  const R& rotation() const { return rotation_; }
  void encode(Context& ctx, MatrixView<const float> rows, MatrixView<float> out) const {
    rotation_.apply(ctx, Op::none, 1, rows.transposed(), 0, out.transposed());
  }
  void decode(Context& ctx, MatrixView<const float> rows, MatrixView<float> out) const {
    rotation_.apply(ctx, Op::transpose, 1, rows.transposed(), 0, out.transposed());
  }
  void absorb(Context& ctx, MatrixView<const float> rows, MatrixView<float> out) const { encode(ctx, rows, out); }

 private:
  R rotation_;
};

}  // namespace tessera::inline TESSERA_ABI::kv
