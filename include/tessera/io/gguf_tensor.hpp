/// Tensors of GGUF files: what the reader returns and the writer takes.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <tessera/core/buffer.hpp>
#include <tessera/core/config.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>
#include <tessera/io/detail/parse.hpp>
#include <tessera/io/gguf_types.hpp>
#include <tessera/io/mapped_file.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

inline constexpr Index gguf_most_extents = 4;
inline constexpr std::size_t gguf_longest_key = 65535;

/// The bytes that a tensor's shape and type need, or -1 when they cannot be counted or a row is no whole number of
/// blocks.
inline Index gguf_bytes(const GgufTypeRow& row, std::span<const Index> shape) {
  Index bytes = checked_size(shape);
  const Index cols = shape.empty() ? 1 : shape.back();
  if (bytes < 0 || cols % row.block_size != 0) return -1;
  bytes /= row.block_size;
  return multiply_into(bytes, row.block_bytes) ? bytes : -1;
}

}  // namespace detail

/// A named tensor in bytes that someone else owns: a mapped file (kept alive through `owner`) or memory. Row-major: the
/// last extent is the contiguous one, GGUF's first. Readers guarantee that `data` holds exactly the blocks of `shape`.
struct GgufTensor {
  std::string name;
  GgufType type = GgufType::float32;
  std::vector<Index> shape = {};
  std::span<const std::byte> data = {};
  std::shared_ptr<const MappedFile> owner = nullptr;

  Index size() const { return detail::checked_size(shape); }
  /// As a matrix: all but the last extent are rows.
  Index rows() const { return shape.empty() ? 1 : detail::checked_size(std::span(shape).first(shape.size() - 1)); }
  Index cols() const { return shape.empty() ? 1 : shape.back(); }

  /// The numbers where they lie, no copy: valid while `owner` (or the borrowed memory) lives. Throws unsupported_error
  /// for another type or rank, or bytes that are not aligned for it. O(1).
  template <GgufElement T, int Rank>
  View<const T, Rank> view() const {
    if (static_cast<std::size_t>(Rank) != shape.size()) refuse(gguf_type_of<T>, detail::concat("of rank ", Rank));
    std::array<Index, Rank> extents{}, strides{};
    std::copy_n(shape.begin(), Rank, extents.begin());
    Index stride = 1;
    for (std::size_t d = Rank; d-- > 0; stride *= std::max<Index>(extents[d], 1)) strides[d] = stride;
    return {aligned<T>(gguf_type_of<T>), extents, strides};
  }
  /// rows() * cols() / F::block_size blocks where they lie, row after row. Throws as view().
  template <GgufFormat F>
  std::span<const typename F::Block> blocks() const {
    const auto* first = aligned<typename F::Block>(gguf_type_of<F>);
    return {first, data.size() / sizeof(typename F::Block)};
  }

  /// All values as f32 in row-major order: blocks decoded, numbers rounded to nearest. Throws unsupported_error for the
  /// types that visit_gguf_type does not know. O(size).
  Buffer<float> read() const {
    Buffer<float> out(size(), uninitialized);
    if (out.size() == 0) return out;
    visit_gguf_type(type, name, [&]<class T>(std::type_identity<T>) {
      const std::byte* from = data.data();
      if constexpr (GgufElement<T>) {
        for (Index i = 0; i < out.size(); ++i) {
          T value;
          std::memcpy(&value, from + i * static_cast<Index>(sizeof(T)), sizeof(T));
          out[i] = static_cast<float>(value);
        }
      } else {
        for (Index i = 0; i < out.size(); i += T::block_size, from += sizeof(typename T::Block)) {
          typename T::Block block;
          std::memcpy(&block, from, sizeof block);
          T::decode(block, std::span(out.data() + i, static_cast<std::size_t>(T::block_size)));
        }
      }
    });
    return out;
  }

 private:
  template <class T>
  const T* aligned(GgufType as) const {
    if (type != as) refuse(as, "");
    if (reinterpret_cast<std::uintptr_t>(data.data()) % alignof(T) != 0) refuse(as, "where bytes are not aligned");
    return reinterpret_cast<const T*>(data.data());
  }
  [[noreturn]] void refuse(GgufType as, std::string_view how) const {
    throw unsupported_error(detail::concat("tessera: tensor ", detail::quote(name), " of ", gguf_type_name(type), " ",
                                           detail::shape_text(shape), " seen as ", gguf_type_name(as), " ", how,
                                           ": read() converts"));
  }
};

/// A contiguous view as a tensor to be written; borrows the elements. Throws shape_error when it is not contiguous.
template <class T, int Rank>
requires GgufElement<T> GgufTensor as_gguf_tensor(std::string name, View<T, Rank> view) {
  if (!view.contiguous())
    throw shape_error(detail::concat("tessera: tensor ", name, " of shape ", detail::shape_text(view.extents()),
                                     ": strides ", detail::shape_text(view.strides()),
                                     " are not contiguous; copy it first"));
  GgufTensor tensor{
      .name = std::move(name), .type = gguf_type_of<T>, .shape = {view.extents().begin(), view.extents().end()}};
  tensor.data = std::as_bytes(std::span(view.data(), static_cast<std::size_t>(view.size())));
  return tensor;
}
/// (rows, cols) in blocks of F, row after row, as a tensor to be written; borrows the blocks.
template <GgufFormat F>
GgufTensor as_gguf_tensor(std::string name, Index rows, Index cols, std::span<const typename F::Block> blocks) {
  GgufTensor tensor{.name = std::move(name), .type = gguf_type_of<F>, .shape = {rows, cols}};
  tensor.data = std::as_bytes(blocks);
  return tensor;
}

}  // namespace tessera::inline TESSERA_ABI
