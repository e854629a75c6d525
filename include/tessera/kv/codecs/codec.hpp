/// What a codec is: how the keys and the values of one head become bytes.
#pragma once

#include <concepts>
#include <cstddef>
#include <span>
#include <string_view>

#include <tessera/core/config.hpp>
#include <tessera/kernels/attention/args.hpp>
#include <tessera/kernels/attention/unpack/list.hpp>
#include <tessera/kv/storage.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// The unpacking kernel of this processor, chosen once an operation.
using Unpack = void (*)(const UnpackArgs&, RowRange) noexcept;

/// Rows of one head in one representation.
///   append(rows, count, stride)   count rows of d floats, `stride` apart
///   tile(begin, count, scratch, stride, unpack)   rows as floats: in place, or decoded into scratch (count, d)
///   codes(begin)   optional: rows from `begin` on as codes, for kernels that widen them in registers
///   retain(kept)   keeps rows kept[0] < kept[1] < … and frees the rest      truncate(n)   keeps the first n
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

/// `name`, and the stores of the keys and of the values of one head of d channels.
template <class C>
concept Codec = std::copyable<C> && requires(const C& codec, Index d) {
  { C::name } -> std::convertible_to<std::string_view>;
  { codec.template keys<Contiguous>(d) } -> RowStore;
  { codec.template values<Contiguous>(d) } -> RowStore;
};

}  // namespace tessera::inline TESSERA_ABI::kv
