/// Rotary position embedding over interleaved pairs.
#pragma once

#include <cmath>
#include <limits>
#include <span>

#include <tessera/core/buffer.hpp>
#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/kernels/rope/list.hpp>

namespace tessera::inline TESSERA_ABI::nn {

/// cos and sin of pos·theta^(-2i/d) for positions [0, positions) and pairs i of a head of d, each twice.
/// J. Su et al., "RoFormer" (2021), eq. 15 and 34.
template <class T>
class RopeTable {
 public:
  /// Throws shape_error unless d is even and positive, positions >= 0 and their product fits.
  RopeTable(Index d, Index positions, double theta = 10000) : d_(d), positions_(positions) {
    if (d <= 0 || d % 2 != 0 || positions < 0 || positions > std::numeric_limits<Index>::max() / d)
      throw shape_error(tessera::detail::concat("tessera: RopeTable(d = ", d, ", positions = ", positions,
                                                "): expected an even d and at least 0 positions, whose product fits"));
    cos_ = Buffer<T>(d * positions);
    sin_ = Buffer<T>(d * positions);
    for (Index i = 0; i < d; ++i) {
      const double frequency = std::pow(theta, -static_cast<double>(i / 2 * 2) / static_cast<double>(d));
      for (Index p = 0; p < positions; ++p) {
        cos_[p * d + i] = static_cast<T>(std::cos(static_cast<double>(p) * frequency));
        sin_[p * d + i] = static_cast<T>(std::sin(static_cast<double>(p) * frequency));
      }
    }
  }

  Index d() const { return d_; }
  Index positions() const { return positions_; }
  const T* cos() const { return cos_.data(); }
  const T* sin() const { return sin_.data(); }

 private:
  Index d_, positions_;
  Buffer<T> cos_, sin_;
};

namespace detail {

template <class T>
void rope_turn(Context& ctx, const RopeTable<T>& table, MatrixView<T> X, RopeArgs<T> args, Index highest, T sign) {
  using tessera::detail::concat;
  if (X.cols() % table.d() != 0 || (X.cols() > 1 && X.col_stride() != 1))
    throw shape_error(concat("tessera: rope of (", tessera::detail::shape_text(X.rows(), X.cols()), ") with stride ",
                             X.col_stride(), " of columns: expected contiguous heads of ", table.d()));
  if (X.empty()) return;
  if (highest >= table.positions())
    throw shape_error(
        concat("tessera: rope at position ", highest, ": the table has positions 0 to ", table.positions() - 1));
  args.X = X;
  args.heads = X.cols() / table.d();
  args.d = table.d();
  args.cos = table.cos();
  args.sin = table.sin();
  args.sign = sign;
  const Index grain = std::max<Index>(1, 32768 / X.cols());
  launch(ctx, RopeKernels::select(ctx, args), args, X.rows(), grain);
}

template <class T>
void rope_run(Context& ctx, const RopeTable<T>& table, MatrixView<T> X, Index offset, Index period, T sign) {
  if (period <= 0) period = std::max<Index>(X.rows(), 1);
  if (offset < 0) throw shape_error(tessera::detail::concat("tessera: rope at position ", offset, ": expected >= 0"));
  RopeArgs<T> args;
  args.offset = offset;
  args.period = period;
  const Index last = std::min(period, X.rows()) - 1;
  rope_turn(ctx, table, X, args, offset > table.positions() ? offset : offset + last, sign);  // no overflow
}

template <class T>
void rope_at(Context& ctx, const RopeTable<T>& table, MatrixView<T> X, std::span<const Index> positions, T sign) {
  if (static_cast<Index>(positions.size()) != X.rows())
    throw shape_error(tessera::detail::concat("tessera: rope of ", X.rows(), " rows at ",
                                              static_cast<Index>(positions.size()), " positions"));
  Index highest = -1;
  for (Index p : positions) {
    if (p < 0) throw shape_error(tessera::detail::concat("tessera: rope at position ", p, ": expected >= 0"));
    highest = std::max(highest, p);
  }
  RopeArgs<T> args;
  args.positions = positions.data();
  rope_turn(ctx, table, X, args, highest, sign);
}

}  // namespace detail

/// Turns pairs (2i, 2i+1) of every head in place. Row r is at position offset + r % period; `period` is the length of
/// a sequence where X holds a batch of them, 0 for one sequence. Throws shape_error. O(X).
template <class T>
void rope(Context& ctx, const RopeTable<T>& table, std::type_identity_t<MatrixView<T>> X,  // (n, heads*d)
          Index offset = 0, Index period = 0) {
  detail::rope_run(ctx, table, X, offset, period, T(1));
}
/// Row r at positions[r].
template <class T>
void rope(Context& ctx, const RopeTable<T>& table, std::type_identity_t<MatrixView<T>> X,  // (n, heads*d)
          std::span<const Index> positions) {                                              // (n)
  detail::rope_at(ctx, table, X, positions, T(1));
}

/// dX in place of dY: a rotation's gradient is the rotation back.
template <class T>
void rope_backward(Context& ctx, const RopeTable<T>& table, std::type_identity_t<MatrixView<T>> dY,  // (n, heads*d)
                   Index offset = 0, Index period = 0) {
  detail::rope_run(ctx, table, dY, offset, period, T(-1));
}
template <class T>
void rope_backward(Context& ctx, const RopeTable<T>& table, std::type_identity_t<MatrixView<T>> dY,  // (n, heads*d)
                   std::span<const Index> positions) {                                               // (n)
  detail::rope_at(ctx, table, dY, positions, T(-1));
}

}  // namespace tessera::inline TESSERA_ABI::nn
