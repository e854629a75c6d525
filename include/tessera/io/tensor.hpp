/// A typed, shaped stretch of a file: what safetensors and npy readers return and the safetensors writer takes.
#pragma once

#include <algorithm>
#include <array>
#include <complex>
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
#include <tessera/core/types.hpp>
#include <tessera/core/view.hpp>
#include <tessera/io/detail/parse.hpp>
#include <tessera/io/dtype.hpp>
#include <tessera/io/mapped_file.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

/// One element from unaligned bytes, each real number's bytes reversed if `swapped`.
template <class T>
T load_element(const std::byte* from, bool swapped) {
  if constexpr (is_complex_element<T>) {
    using R = typename T::value_type;
    return {load_element<R>(from, swapped), load_element<R>(from + sizeof(R), swapped)};
  } else if constexpr (std::is_same_v<T, bool>) {
    return *from != std::byte{0};  // any other pattern than 0 and 1 is no bool
  } else {
    std::array<std::byte, sizeof(T)> bytes;
    std::copy_n(from, sizeof(T), bytes.begin());
    if (swapped) std::reverse(bytes.begin(), bytes.end());
    T value;
    std::memcpy(&value, bytes.data(), sizeof(T));
    return value;
  }
}

template <class T>
inline constexpr bool is_real_element = std::floating_point<T> || is_small_float<T>;

/// From → To without losing more than floating-point rounding.
template <class To, class From>
inline constexpr bool converts_elements = std::is_same_v<To, From> || is_complex_element<To> ||
                                          (is_real_element<To> && !is_complex_element<From>) ||
                                          (std::integral<To> && !std::is_same_v<To, bool> && std::integral<From>);

/// False when an integer does not fit.
template <class To, class From>
bool convert_element(From value, To& to) {
  if constexpr (std::is_same_v<To, From>) {
    to = value;
  } else if constexpr (is_complex_element<To>) {
    using R = typename To::value_type;
    if constexpr (is_complex_element<From>)
      to = To(static_cast<R>(value.real()), static_cast<R>(value.imag()));
    else
      to = To(static_cast<R>(value), R(0));
  } else if constexpr (is_real_element<To>) {
    to = static_cast<To>(value);
  } else if constexpr (std::is_same_v<From, bool>) {
    to = value ? To(1) : To(0);
  } else {
    if (!std::in_range<To>(value)) return false;
    to = static_cast<To>(value);
  }
  return true;
}

}  // namespace detail

/// A named tensor in bytes that someone else owns: a mapped file (kept alive through `owner`) or memory.
/// Readers guarantee that `data` holds exactly the elements of `shape`.
struct Tensor {
  std::string name;
  DType dtype = DType::float32;
  std::vector<Index> shape = {};
  std::span<const std::byte> data = {};
  bool column_major = false;  // first index fastest
  bool swapped = false;       // big-endian numbers
  std::shared_ptr<const MappedFile> owner = nullptr;

  Index rank() const { return static_cast<Index>(shape.size()); }
  Index size() const { return detail::checked_size(shape); }

  /// Why `view<T, Rank>` would throw, or nullptr.
  template <TensorElement T, int Rank>
  const char* reject_view() const {
    if (dtype != dtype_of<T>) return "it holds another type; read<T>() converts";
    if (swapped) return "it is big-endian; read<T>() swaps";
    if (reinterpret_cast<std::uintptr_t>(data.data()) % alignof(T) != 0)
      return "its bytes are not aligned for the type; read<T>() copies";
    if (rank() != Rank) return "it has another rank";
    return nullptr;
  }

  /// The elements where they lie, no copy: valid while `owner` (or the borrowed memory) lives. Booleans are viewed as
  /// nothing but bytes: read<bool>() checks them. Throws unsupported_error saying what is in the way. O(1).
  template <TensorElement T, int Rank>
  requires(!std::is_same_v<T, bool>) View<const T, Rank> view()
  const {
    if (const char* reason = reject_view<T, Rank>())
      throw unsupported_error(detail::concat("tessera: ", name, " of ", dtype_name(dtype), " ",
                                             detail::shape_text(shape), " seen as ", dtype_name(dtype_of<T>),
                                             " of rank ", Rank, ": ", reason));
    std::array<Index, Rank> extents{}, strides{};
    std::copy_n(shape.begin(), Rank, extents.begin());
    Index stride = 1;
    for (std::size_t k = 0; k < Rank; ++k) {
      const std::size_t d = column_major ? k : Rank - 1 - k;
      strides[d] = stride;
      stride *= std::max<Index>(extents[d], 1);
    }
    return {reinterpret_cast<const T*>(data.data()), extents, strides};
  }

  /// A copy in row-major order, converted to T: floating-point values round to nearest, integers must fit.
  /// Throws unsupported_error when values of `dtype` are not T's kind (complex → real, real → integer). O(size).
  template <TensorElement T>
  Buffer<T> read() const {
    return detail::visit_dtype(dtype, name, [&]<class From>(std::type_identity<From>) -> Buffer<T> {
      if constexpr (!detail::converts_elements<T, From>) {
        throw unsupported_error(detail::concat("tessera: ", name, " holds ", dtype_name(dtype),
                                               ", which does not convert to ", dtype_name(dtype_of<T>)));
      } else {
        Buffer<T> out(size(), uninitialized);
        if constexpr (std::is_same_v<T, From> && !std::is_same_v<T, bool>)
          if (!swapped && (!column_major || rank() < 2)) {
            if (!data.empty()) std::memcpy(out.data(), data.data(), data.size());
            return out;
          }
        for_each_row_major([&](Index to, Index from) {
          const auto value = detail::load_element<From>(data.data() + from * static_cast<Index>(sizeof(From)), swapped);
          if (!detail::convert_element<T, From>(value, out[to]))
            throw unsupported_error(
                detail::concat("tessera: ", name, ": element ", to, " does not fit ", dtype_name(dtype_of<T>)));
        });
        return out;
      }
    });
  }

 private:
  /// f(row-major position, position in data) for every element.
  template <class F>
  void for_each_row_major(F&& f) const {
    const Index count = size();
    if (!column_major || rank() < 2) {
      for (Index i = 0; i < count; ++i) f(i, i);
      return;
    }
    if (count == 0) return;
    std::vector<Index> at(shape.size(), 0), stride(shape.size(), 1);
    for (std::size_t d = 1; d < shape.size(); ++d) stride[d] = stride[d - 1] * shape[d - 1];
    Index from = 0;
    for (Index i = 0; i < count; ++i) {
      f(i, from);
      for (std::size_t d = shape.size(); d-- > 0;) {
        from += stride[d];
        if (++at[d] < shape[d]) break;
        from -= stride[d] * shape[d];
        at[d] = 0;
      }
    }
  }
};

/// A contiguous view as a tensor to be written; borrows the elements. Throws shape_error when it is not contiguous.
template <class T, int Rank>
requires TensorElement<T> Tensor as_tensor(std::string name, View<T, Rank> view) {
  if (!view.contiguous())
    throw shape_error(detail::concat("tessera: tensor ", name, " of shape ", detail::shape_text(view.extents()),
                                     ": strides ", detail::shape_text(view.strides()),
                                     " are not contiguous; copy it first"));
  Tensor tensor{.name = std::move(name), .dtype = dtype_of<T>, .shape = {view.extents().begin(), view.extents().end()}};
  tensor.data = std::as_bytes(std::span(view.data(), static_cast<std::size_t>(view.size())));
  return tensor;
}

}  // namespace tessera::inline TESSERA_ABI
