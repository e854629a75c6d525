/// What stores of independent rows have in common.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <tuple>
#include <utility>

#include <tessera/core/config.hpp>
#include <tessera/kv/storage.hpp>

namespace tessera::inline TESSERA_ABI::kv::detail {

/// Arrays of so many elements a row each, which hold the same rows.
template <class Storage, class... T>
class RowArrays {
 public:
  void retain(std::span<const Index> kept, Index spare = 0) {
    each([&](auto& rows, Index width) { retain_rows(rows, width, kept, spare); });
    size_ = static_cast<Index>(kept.size());
  }
  void truncate(Index n) {
    each([&](auto& rows, Index width) { truncate_rows(rows, width, n); });
    size_ = n;
  }
  /// Adds rows [begin, begin + count) of another as they are coded.
  void take(const RowArrays& from, Index begin, Index count) {
    each_of(std::index_sequence_for<T...>(), [&]<std::size_t I>(std::integral_constant<std::size_t, I>) {
      append_rows(std::get<I>(arrays_), std::get<I>(from.arrays_), widths_[I], begin, count);
    });
    size_ += count;
  }
  void reserve(Index n) {
    each([&](auto& rows, Index width) { rows.reserve(n * width); });
  }
  Index size() const { return size_; }
  std::size_t bytes() const {
    return std::apply([](const auto&... rows) { return (rows.bytes() + ...); }, arrays_);
  }

 protected:
  explicit RowArrays(const std::array<Index, sizeof...(T)>& widths) : widths_(widths) {}

  /// `count` rows to be written; gives the first of them.
  Index grow(Index count) {
    each([&](auto& rows, Index width) { rows.resize((size_ + count) * width); });
    return std::exchange(size_, size_ + count);
  }
  auto& arrays() { return arrays_; }
  const auto& arrays() const { return arrays_; }

 private:
  template <std::size_t... I, class F>
  static void each_of(std::index_sequence<I...>, const F& f) {
    (f(std::integral_constant<std::size_t, I>()), ...);
  }
  template <class F>
  void each(const F& f) {
    each_of(std::index_sequence_for<T...>(),
            [&]<std::size_t I>(std::integral_constant<std::size_t, I>) { f(std::get<I>(arrays_), widths_[I]); });
  }

  std::array<Index, sizeof...(T)> widths_;
  Index size_ = 0;
  std::tuple<typename Storage::template Array<T>...> arrays_;  // (size, width) each
};

}  // namespace tessera::inline TESSERA_ABI::kv::detail
