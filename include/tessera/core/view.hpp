/// Strided, non-owning views of rank 1 to 4. Strides count elements and may be zero or negative.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <type_traits>

#include <tessera/core/config.hpp>
#include <tessera/core/error.hpp>

namespace tessera::inline TESSERA_ABI {

template <class T, int Rank>
requires(Rank >= 1 && Rank <= 4) class View {
 public:
  using value_type = std::remove_cv_t<T>;
  using element_type = T;
  using Shape = std::array<Index, static_cast<std::size_t>(Rank)>;
  static constexpr int rank = Rank;

  constexpr View() = default;
  constexpr View(T* data, Shape extents, Shape strides) : data_(data), extents_(extents), strides_(strides) {}

  /// Contiguous, last index fastest.
  constexpr View(T* data, Shape extents) : data_(data), extents_(extents) {
    Index stride = 1;
    for (std::size_t d = dims; d-- > 0;) {
      strides_[d] = stride;
      stride *= extents[d];
    }
  }

  constexpr View(T* data, Index size) requires(Rank == 1) : View(data, Shape{size}) {}
  /// Row-major (rows, cols).
  constexpr View(T* data, Index rows, Index cols) requires(Rank == 2) : View(data, Shape{rows, cols}) {}

  /// A view of T converts to a view of const T.
  template <class U>
  requires(std::same_as<T, const U> && !std::is_const_v<U>) constexpr View(const View<U, Rank>& other)
      : data_(other.data()), extents_(other.extents()), strides_(other.strides()) {}

  constexpr T* data() const { return data_; }
  constexpr const Shape& extents() const { return extents_; }
  constexpr const Shape& strides() const { return strides_; }
  constexpr Index extent(int d) const { return extents_[static_cast<std::size_t>(d)]; }
  constexpr Index stride(int d) const { return strides_[static_cast<std::size_t>(d)]; }
  constexpr Index size() const {
    Index count = 1;
    for (Index e : extents_) count *= e;
    return count;
  }
  constexpr bool empty() const { return size() == 0; }

  constexpr Index rows() const requires(Rank == 2) { return extents_[0]; }
  constexpr Index cols() const requires(Rank == 2) { return extents_[1]; }
  constexpr Index row_stride() const requires(Rank == 2) { return strides_[0]; }
  constexpr Index col_stride() const requires(Rank == 2) { return strides_[1]; }

  template <class... I>
  requires(sizeof...(I) == Rank && (std::convertible_to<I, Index> && ...)) constexpr T& operator()(I... index) const {
    const Shape at{static_cast<Index>(index)...};
    Index offset = 0;
    for (std::size_t d = 0; d < dims; ++d) offset += at[d] * strides_[d];
    return data_[offset];
  }
  constexpr T& operator[](Index i) const requires(Rank == 1) { return data_[i * strides_[0]]; }

  /// The view with index `i` of the first dimension fixed: a row of a matrix, a head of (heads, n, d).
  constexpr auto operator[](Index i) const requires(Rank > 1) {
    std::array<Index, dims - 1> extents{}, strides{};
    for (std::size_t d = 1; d < dims; ++d) {
      extents[d - 1] = extents_[d];
      strides[d - 1] = strides_[d];
    }
    return View<T, Rank - 1>(moved(i * strides_[0]), extents, strides);
  }

  constexpr View<T, 1> row(Index i) const requires(Rank == 2) {
    return {moved(i * strides_[0]), {extents_[1]}, {strides_[1]}};
  }
  constexpr View<T, 1> col(Index j) const requires(Rank == 2) {
    return {moved(j * strides_[1]), {extents_[0]}, {strides_[0]}};
  }
  constexpr View transposed() const requires(Rank == 2) {
    return {data_, {extents_[1], extents_[0]}, {strides_[1], strides_[0]}};
  }

  /// `count` indices of dimension `d` from `begin`. Throws shape_error if they are not all inside.
  constexpr View slice(int d, Index begin, Index count) const {
    if (d < 0 || d >= Rank)
      throw shape_error(detail::concat("tessera: slice of dimension ", d, " of a view of rank ", Rank));
    if (begin < 0 || count < 0 || begin > extent(d) - count)
      throw shape_error(detail::concat("tessera: slice of ", count, " from ", begin, " of dimension ", d,
                                       ", which has ", extent(d), " entries"));
    View part = *this;
    part.data_ = moved(begin * stride(d));
    part.extents_[static_cast<std::size_t>(d)] = count;
    return part;
  }
  constexpr View block(Index row, Index col, Index rows, Index cols) const requires(Rank == 2) {
    return slice(0, row, rows).slice(1, col, cols);
  }

  /// Elements lie one after another with the last index fastest.
  constexpr bool contiguous() const {
    Index stride = 1;
    for (std::size_t d = dims; d-- > 0;) {
      if (extents_[d] > 1 && strides_[d] != stride) return false;
      stride *= extents_[d];
    }
    return true;
  }

 private:
  static constexpr std::size_t dims = Rank;

  /// Nothing is added to a null pointer: views of nothing are cut as others are.
  constexpr T* moved(Index by) const { return data_ == nullptr ? nullptr : data_ + by; }

  T* data_ = nullptr;
  Shape extents_{};
  Shape strides_{};
};

template <class T>
using VectorView = View<T, 1>;  // (n)
template <class T>
using MatrixView = View<T, 2>;  // (rows, cols)

/// A vector seen as a (n, 1) matrix.
template <class T>
constexpr MatrixView<T> as_column(VectorView<T> x) {
  return {x.data(), {x.extent(0), 1}, {x.stride(0), x.extent(0) * x.stride(0)}};
}

/// The addresses a view may touch, [first, last) in bytes, for alias checks. Empty views touch nothing.
struct ByteRange {
  const void* first = nullptr;
  const void* last = nullptr;
  bool overlaps(const ByteRange& other) const {
    return first != last && other.first != other.last && first < other.last && other.first < last;
  }
};

template <class T, int Rank>
ByteRange byte_range(const View<T, Rank>& view) {
  if (view.empty()) return {};
  Index low = 0, high = 0;
  for (int d = 0; d < Rank; ++d) {
    const Index reach = (view.extent(d) - 1) * view.stride(d);
    (reach < 0 ? low : high) += reach;
  }
  return {view.data() + low, view.data() + high + 1};
}

}  // namespace tessera::inline TESSERA_ABI
