/// What a codec is: how the keys and the values of one head become bytes.
#pragma once

#include <concepts>
#include <cstddef>
#include <span>
#include <string_view>

#include <tessera/core/config.hpp>
#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kernels/attention/args.hpp>
#include <tessera/kernels/attention/unpack/list.hpp>
#include <tessera/kv/storage.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// The unpacking kernel of this processor, chosen once an operation.
using Unpack = void (*)(const UnpackArgs&, RowRange) noexcept;

enum class KvPart { keys, values };

/// Rows of one head in one representation.
///   append(rows, count, stride)   count rows of d floats, `stride` apart
///   tile(begin, count, scratch, stride, unpack)   rows as floats: in place, or decoded into scratch (count, d)
///   codes(begin)   optional: rows from `begin` on as codes, for kernels that widen them in registers
///   retain(kept)   keeps rows kept[0] < kept[1] < … and frees the rest      truncate(n)   keeps the first n
///   retain(kept, spare)   optional: the same, but for room for `spare` more rows
///   demote(kept)   optional: rows but those kept take fewer bits from now on
///   reserve(n)   room for n rows in all, so that appending them does not move memory      bytes()   what is held
template <class S>
concept RowStore = std::copyable<S> && requires(S& store, const S& same, const float* rows, float* scratch, Index i,
                                                Index& stride, std::span<const Index> kept, Unpack unpack) {
  store.append(rows, i, i);
  store.truncate(i);
  store.retain(kept);
  store.reserve(i);
  { same.tile(i, i, scratch, stride, unpack) }
  noexcept->std::same_as<const float*>;
  { same.size() } -> std::same_as<Index>;
  { same.bytes() } -> std::same_as<std::size_t>;
};

/// A store whose first `latent()` rows attention reads as coordinates: with row j = expand(c_j) of c_j of `width()`
/// numbers, q·row = absorb(q)·c_j, and Σ p_j row_j = expand(Σ p_j c_j).
template <class S>
concept LatentRowStore = RowStore<S> &&
    requires(const S& store, Context& ctx, MatrixView<const float> rows, MatrixView<float> out, float* scratch, Index i,
             Index& stride, Unpack unpack) {
  { store.latent() } -> std::same_as<Index>;
  { store.width() } -> std::same_as<Index>;
  { store.latent_tile(i, i, scratch, stride, unpack) }
  noexcept->std::same_as<const float*>;
  { store.latent_codes(i) }
  noexcept->std::same_as<TokenCodes>;
  store.absorb(ctx, rows, out);  // (n, d) -> (n, width)
  store.expand(ctx, rows, out);  // (n, width) -> (n, d)
};

namespace detail {
/// Throws unsupported_error naming the row store unless `count` is `least` or more.
inline Index checked_tokens(const char* store, const char* what, Index count, Index least = 1) {
  if (count < least)
    throw unsupported_error(
        tessera::detail::concat("tessera: ", store, ": ", what, " = ", count, "; expected at least ", least));
  return count;
}
template <class C>
void check_codec([[maybe_unused]] const C& codec, [[maybe_unused]] Index kv_heads) {
  if constexpr (requires { codec.check(kv_heads); }) codec.check(kv_heads);
}
template <KvPart Part, class Storage, class C>
auto row_store(const C& codec, Index d, Index kv_head) {
  if constexpr (Part == KvPart::keys && requires { codec.template keys<Storage>(d, kv_head); })
    return codec.template keys<Storage>(d, kv_head);
  else if constexpr (Part == KvPart::keys)
    return codec.template keys<Storage>(d);
  else if constexpr (requires { codec.template values<Storage>(d, kv_head); })
    return codec.template values<Storage>(d, kv_head);
  else
    return codec.template values<Storage>(d);
}
}  // namespace detail

/// `name`, and the stores of the keys and of the values of one head of d channels: keys<Storage>(d), or, where heads
/// differ, keys<Storage>(d, kv_head). `check(kv_heads)`, if there is one, throws where it does not fit so many heads.
template <class C>
concept Codec = std::copyable<C> && requires(const C& codec, Index d) {
  { C::name } -> std::convertible_to<std::string_view>;
  { detail::row_store<KvPart::keys, Contiguous>(codec, d, d) } -> RowStore;
  { detail::row_store<KvPart::values, Contiguous>(codec, d, d) } -> RowStore;
};

}  // namespace tessera::inline TESSERA_ABI::kv
