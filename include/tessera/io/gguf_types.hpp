/// The types that GGUF files name: of metadata values and of tensors.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include <tessera/core/config.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/types.hpp>
#include <tessera/quant/formats.hpp>

namespace tessera::inline TESSERA_ABI {

/// Element types of tensors, by their number in the file.
enum class GgufType : std::uint32_t {
  float32 = 0,
  float16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q5_0 = 6,
  q5_1 = 7,
  q8_0 = 8,
  q8_1 = 9,
  q2_K = 10,
  q3_K = 11,
  q4_K = 12,
  q5_K = 13,
  q6_K = 14,
  q8_K = 15,
  iq2_xxs = 16,
  iq2_xs = 17,
  iq3_xxs = 18,
  iq1_s = 19,
  iq4_nl = 20,
  iq3_s = 21,
  iq2_s = 22,
  iq4_xs = 23,
  int8 = 24,
  int16 = 25,
  int32 = 26,
  int64 = 27,
  float64 = 28,
  iq1_m = 29,
  bfloat16 = 30,
  tq1_0 = 34,
  tq2_0 = 35,
  mxfp4 = 39,
  nvfp4 = 40,
  q1_0 = 41,
  q2_0 = 42,
};

namespace detail {

struct GgufTypeRow {
  GgufType type;
  std::string_view name;
  Index block_size;   // elements
  Index block_bytes;  // of those
};
inline constexpr std::array<GgufTypeRow, 35> gguf_type_rows{{
    {GgufType::float32, "f32", 1, 4},
    {GgufType::float16, "f16", 1, 2},
    {GgufType::q4_0, "q4_0", 32, 18},
    {GgufType::q4_1, "q4_1", 32, 20},
    {GgufType::q5_0, "q5_0", 32, 22},
    {GgufType::q5_1, "q5_1", 32, 24},
    {GgufType::q8_0, "q8_0", 32, 34},
    {GgufType::q8_1, "q8_1", 32, 36},
    {GgufType::q2_K, "q2_K", 256, 84},
    {GgufType::q3_K, "q3_K", 256, 110},
    {GgufType::q4_K, "q4_K", 256, 144},
    {GgufType::q5_K, "q5_K", 256, 176},
    {GgufType::q6_K, "q6_K", 256, 210},
    {GgufType::q8_K, "q8_K", 256, 292},
    {GgufType::iq2_xxs, "iq2_xxs", 256, 66},
    {GgufType::iq2_xs, "iq2_xs", 256, 74},
    {GgufType::iq3_xxs, "iq3_xxs", 256, 98},
    {GgufType::iq1_s, "iq1_s", 256, 50},
    {GgufType::iq4_nl, "iq4_nl", 32, 18},
    {GgufType::iq3_s, "iq3_s", 256, 110},
    {GgufType::iq2_s, "iq2_s", 256, 82},
    {GgufType::iq4_xs, "iq4_xs", 256, 136},
    {GgufType::int8, "i8", 1, 1},
    {GgufType::int16, "i16", 1, 2},
    {GgufType::int32, "i32", 1, 4},
    {GgufType::int64, "i64", 1, 8},
    {GgufType::float64, "f64", 1, 8},
    {GgufType::iq1_m, "iq1_m", 256, 56},
    {GgufType::bfloat16, "bf16", 1, 2},
    {GgufType::tq1_0, "tq1_0", 256, 54},
    {GgufType::tq2_0, "tq2_0", 256, 66},
    {GgufType::mxfp4, "mxfp4", 32, 17},
    {GgufType::nvfp4, "nvfp4", 64, 36},
    {GgufType::q1_0, "q1_0", 128, 18},
    {GgufType::q2_0, "q2_0", 64, 18},
}};

/// nullptr for a number that names no type here.
constexpr const GgufTypeRow* find_gguf_type(std::uint32_t number) {
  for (const auto& row : gguf_type_rows)
    if (static_cast<std::uint32_t>(row.type) == number) return &row;
  return nullptr;
}

/// Which row, or -1. (Of pointers g++ with sanitizers does not say that they are no nullptr.)
template <class F>
constexpr int gguf_row_of_format() {
  for (std::size_t i = 0; i < gguf_type_rows.size(); ++i)
    if (const auto& row = gguf_type_rows[i]; row.name == F::name && row.block_size == F::block_size &&
                                             row.block_bytes == static_cast<Index>(sizeof(typename F::Block)))
      return static_cast<int>(i);
  return -1;
}

/// The element types that have a C++ type.
template <class T>
inline constexpr int gguf_element = -1;
template <>
inline constexpr int gguf_element<float> = static_cast<int>(GgufType::float32);
template <>
inline constexpr int gguf_element<f16> = static_cast<int>(GgufType::float16);
template <>
inline constexpr int gguf_element<bf16> = static_cast<int>(GgufType::bfloat16);
template <>
inline constexpr int gguf_element<double> = static_cast<int>(GgufType::float64);
template <>
inline constexpr int gguf_element<std::int8_t> = static_cast<int>(GgufType::int8);
template <>
inline constexpr int gguf_element<std::int16_t> = static_cast<int>(GgufType::int16);
template <>
inline constexpr int gguf_element<std::int32_t> = static_cast<int>(GgufType::int32);
template <>
inline constexpr int gguf_element<std::int64_t> = static_cast<int>(GgufType::int64);

}  // namespace detail

/// "q4_K"
constexpr std::string_view gguf_type_name(GgufType type) {
  const auto* row = detail::find_gguf_type(static_cast<std::uint32_t>(type));
  return row == nullptr ? "?" : row->name;
}

/// A number type that GGUF tensors hold as it is.
template <class T>
concept GgufElement = (detail::gguf_element<std::remove_cv_t<T>> != -1);

/// A block format that GGUF tensors hold.
template <class F>
concept GgufFormat = BlockFormat<F> &&(detail::gguf_row_of_format<F>() >= 0);

namespace detail {
template <class T>
constexpr GgufType gguf_type_of_impl() {
  if constexpr (GgufElement<T>)
    return static_cast<GgufType>(gguf_element<std::remove_cv_t<T>>);
  else
    return gguf_type_rows[static_cast<std::size_t>(gguf_row_of_format<T>())].type;
}

template <class F, BlockFormat... Formats>
bool visit_gguf_formats(FormatList<Formats...>, GgufType type, F&& f) {
  const auto one = [&]<class Format>(std::type_identity<Format> each) {
    if constexpr (GgufFormat<Format>) {
      if (type == gguf_type_of_impl<Format>()) {
        f(each);
        return true;
      }
    }
    return false;
  };
  return (one(std::type_identity<Formats>{}) || ...);
}
}  // namespace detail

template <class T>
requires GgufElement<T> || GgufFormat<T>
inline constexpr GgufType gguf_type_of = detail::gguf_type_of_impl<T>();

/// `f(std::type_identity<T>{})`, T the number type or the block format of `type`; f returns nothing. Throws
/// unsupported_error naming `what` for the types that have neither here: q8_1 and q8_K, which are of activations.
template <class F>
void visit_gguf_type(GgufType type, std::string_view what, F&& f) {
  switch (type) {
    case GgufType::float32:
      return f(std::type_identity<float>{});
    case GgufType::float16:
      return f(std::type_identity<f16>{});
    case GgufType::bfloat16:
      return f(std::type_identity<bf16>{});
    case GgufType::float64:
      return f(std::type_identity<double>{});
    case GgufType::int8:
      return f(std::type_identity<std::int8_t>{});
    case GgufType::int16:
      return f(std::type_identity<std::int16_t>{});
    case GgufType::int32:
      return f(std::type_identity<std::int32_t>{});
    case GgufType::int64:
      return f(std::type_identity<std::int64_t>{});
    default:
      if (!detail::visit_gguf_formats(CodecFormats{}, type, f))
        throw unsupported_error(detail::concat("tessera: ", what, ": values of type ", gguf_type_name(type),
                                               " cannot be decoded here; take the bytes"));
  }
}

}  // namespace tessera::inline TESSERA_ABI
