/// Token embedding: rows of a table.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>

#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/types.hpp>
#include <tessera/core/view.hpp>

namespace tessera::inline TESSERA_ABI::nn {

using Token = std::int32_t;

namespace detail {

template <class T>
void check_embedding(std::span<const Token> tokens, Index vocabulary, Index d, const MatrixView<T>& X) {
  using tessera::detail::concat;
  if (X.rows() != static_cast<Index>(tokens.size()) || X.cols() != d)
    throw shape_error(concat("tessera: embedding of ", static_cast<Index>(tokens.size()), " tokens in ",
                             tessera::detail::shape_text(vocabulary, d), ": activations are ",
                             tessera::detail::shape_text(X.rows(), X.cols())));
  for (std::size_t i = 0; i < tokens.size(); ++i)
    if (tokens[i] < 0 || tokens[i] >= vocabulary)
      throw shape_error(
          concat("tessera: embedding: token ", i, " is ", tokens[i], "; the table has rows 0 to ", vocabulary - 1));
}

}  // namespace detail

/// X_i = table[tokens_i]. Throws shape_error, also for a token outside the table. O(n·d). The table may be bf16.
template <class E, class T>
void embedding(Context& ctx, MatrixView<E> table,                 // (vocabulary, d)
               std::span<const Token> tokens, MatrixView<T> X) {  // (n), (n, d)
  detail::check_embedding(tokens, table.rows(), table.cols(), X);
  const Index d = X.cols();
  for_each_chunk(ctx, X.rows(), std::max<Index>(1, 32768 / std::max<Index>(d, 1)),
                 [&](Context&, Index begin, Index end) {
                   for (Index i = begin; i < end; ++i) {
                     const auto from = table.row(tokens[static_cast<std::size_t>(i)]);
                     const auto to = X.row(i);
                     if constexpr (std::is_same_v<std::remove_const_t<E>, T>)
                       if (from.stride(0) == 1 && to.stride(0) == 1) {
                         std::memcpy(to.data(), from.data(), static_cast<std::size_t>(d) * sizeof(T));
                         continue;
                       }
                     for (Index j = 0; j < d; ++j) to[j] = static_cast<T>(from[j]);
                   }
                 });
}

/// dtable[tokens_i] += dX_i for each i in order. Threads share out the columns, so that each element is summed in one
/// order. Throws shape_error. O(n·d).
template <class T>
void embedding_backward(Context& ctx, std::span<const Token> tokens,   // (n)
                        std::type_identity_t<MatrixView<const T>> dX,  // (n, d)
                        MatrixView<T> dtable) {                        // (vocabulary, d)
  detail::check_embedding(tokens, dtable.rows(), dtable.cols(), dX);
  constexpr Index strip = 16;
  for_each_chunk(ctx, dX.cols(), 4 * strip, [&](Context&, Index begin, Index end) {
    for (Index i = 0; i < dX.rows(); ++i) {
      const auto from = dX.row(i);
      const auto to = dtable.row(tokens[static_cast<std::size_t>(i)]);
      Index j = begin;
      if (from.stride(0) == 1 && to.stride(0) == 1) {
        const T* TESSERA_RESTRICT x = from.data();
        T* TESSERA_RESTRICT y = to.data();
        for (; j + strip <= end; j += strip)  // a known count, so that it is vectorised
          for (Index k = 0; k < strip; ++k) y[j + k] += x[j + k];
      }
      for (; j < end; ++j) to[j] += from[j];
    }
  });
}

}  // namespace tessera::inline TESSERA_ABI::nn
