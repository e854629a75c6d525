/// The norm of all updates together, and links that need nothing else of them.
#pragma once

#include <cmath>
#include <span>
#include <utility>

#include <tessera/kernels/sum_squares/sum_squares.hpp>
#include <tessera/optim/transform.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// The 2-norm of all blocks together, summed in double over fixed pieces. NaN if any element is, infinite if any is.
template <class T>
double global_norm(Context& ctx, std::span<const VectorView<const T>> blocks) {
  double sum = 0;
  for (const auto& block : blocks) sum += sum_squares(ctx, block);
  return std::sqrt(sum);
}
template <class T>
double global_norm(Context& ctx, const Parameters<T>& blocks) {
  double sum = 0;
  for (const auto& block : blocks) sum += sum_squares(ctx, VectorView<const T>(block.view()));
  return std::sqrt(sum);
}

namespace detail {
/// sum_squares of the x that `write(worker, begin, end)` makes piece by piece, each read while it is in a cache: no
/// pass of its own, and the same bits.
template <class T, class Write>
double sum_squares_written(Context& ctx, VectorView<const T> x, Write&& write) {
  SumSquaresArgs<T> cut;
  cut.x = x;
  Workspace::Scope scope(ctx.workspace);
  double* partial = scope.take<double>(cut.pieces());
  for_each_chunk(ctx, x.extent(0), cut.piece, [&](Context& worker, Index begin, Index end) {
    write(worker, begin, end);
    partial[begin / cut.piece] = sum_squares(worker, VectorView<const T>(x.data() + begin, end - begin));
  });
  double sum = 0;
  for (Index c = 0; c < cut.pieces(); ++c) sum += partial[c];
  return sum;
}

/// Links whose look at all updates is their norm: `of_norm<T>(norm, state)` gives what `reduce` does.
template <class L>
concept NormTransform = requires(const L& link, const Parameters<float>& params) {
  link.template of_norm<float>(1.0, *std::declval<decltype(link.init(params))*>());
};
template <class... Links>
inline constexpr bool begins_with_norm = false;
template <class First, class... Rest>
inline constexpr bool begins_with_norm<First, Rest...> = NormTransform<First>;
}  // namespace detail

}  // namespace tessera::inline TESSERA_ABI::optim
