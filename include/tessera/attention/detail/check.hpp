/// What every exact attention refuses.
#pragma once

#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>

namespace tessera::inline TESSERA_ABI::detail {

/// Throws shape_error unless Q and out are (heads, n, d), K and V (kv_heads, m, d), heads a multiple of kv_heads and d
/// contiguous.
template <class T>
void check_exact(const char* what, const View<const T, 3>& Q, const View<const T, 3>& K, const View<const T, 3>& V,
                 const View<T, 3>& out) {
  const auto text = [](const auto& view) {
    return concat('(', view.extent(0), ", ", view.extent(1), ", ", view.extent(2), ')');
  };
  const Index heads = Q.extent(0), kv_heads = K.extent(0);
  if (K.extents() != V.extents() || K.extent(2) != Q.extent(2))
    throw shape_error(concat("tessera: ", what, " of queries ", text(Q), " over keys ", text(K), " and values ",
                             text(V), ": expected keys and values of one shape (kv_heads, m, ", Q.extent(2), ')'));
  if (kv_heads == 0 ? heads != 0 : heads % kv_heads != 0)
    throw shape_error(concat("tessera: ", what, " of queries ", text(Q), " over keys ", text(K), ": ", heads,
                             " heads are not a multiple of ", kv_heads, " kv heads"));
  if (out.extents() != Q.extents())
    throw shape_error(concat("tessera: ", what, " of queries ", text(Q), ": the result is ", text(Q),
                             ", the destination is ", text(out)));
  const auto contiguous = [](const auto& view) { return view.extent(2) <= 1 || view.stride(2) == 1; };
  if (!contiguous(Q) || !contiguous(K) || !contiguous(V) || !contiguous(out))
    throw shape_error(concat("tessera: ", what, ": strides of d in queries, keys, values, result are ", Q.stride(2),
                             ", ", K.stride(2), ", ", V.stride(2), ", ", out.stride(2), "; expected 1"));
}

}  // namespace tessera::inline TESSERA_ABI::detail
