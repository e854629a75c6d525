/// Element types of tensor files, and their C++ types.
#pragma once

#include <array>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include <tessera/core/config.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/types.hpp>

namespace tessera::inline TESSERA_ABI {

/// Element types of tensor files. The last four have no C++ type here: their bytes can be read, not their values.
enum class DType : std::uint8_t {
  float64,
  float32,
  float16,
  bfloat16,
  float8_e4m3,
  float8_e5m2,
  int64,
  int32,
  int16,
  int8,
  uint64,
  uint32,
  uint16,
  uint8,
  boolean,
  complex64,
  complex128,
  float8_e8m0,
  float6_e2m3,
  float6_e3m2,
  float4,
};

namespace detail {

struct DTypeRow {
  DType dtype;
  std::string_view name;  // as safetensors spells it
  int bits;
};
inline constexpr std::array<DTypeRow, 21> dtype_rows{{
    {DType::float64, "F64", 64},        {DType::float32, "F32", 32},
    {DType::float16, "F16", 16},        {DType::bfloat16, "BF16", 16},
    {DType::float8_e4m3, "F8_E4M3", 8}, {DType::float8_e5m2, "F8_E5M2", 8},
    {DType::int64, "I64", 64},          {DType::int32, "I32", 32},
    {DType::int16, "I16", 16},          {DType::int8, "I8", 8},
    {DType::uint64, "U64", 64},         {DType::uint32, "U32", 32},
    {DType::uint16, "U16", 16},         {DType::uint8, "U8", 8},
    {DType::boolean, "BOOL", 8},        {DType::complex64, "C64", 64},
    {DType::complex128, "C128", 128},   {DType::float8_e8m0, "F8_E8M0", 8},
    {DType::float6_e2m3, "F6_E2M3", 6}, {DType::float6_e3m2, "F6_E3M2", 6},
    {DType::float4, "F4", 4},
}};

template <class T>
inline constexpr bool is_complex_element = false;
template <class T>
inline constexpr bool is_complex_element<std::complex<T>> = true;

template <class T>
inline constexpr int dtype_index = -1;
#define TESSERA_DETAIL_DTYPE(type, value) \
  template <>                             \
  inline constexpr int dtype_index<type> = static_cast<int>(DType::value);
TESSERA_DETAIL_DTYPE(double, float64)
TESSERA_DETAIL_DTYPE(float, float32)
TESSERA_DETAIL_DTYPE(f16, float16)
TESSERA_DETAIL_DTYPE(bf16, bfloat16)
TESSERA_DETAIL_DTYPE(fp8_e4m3, float8_e4m3)
TESSERA_DETAIL_DTYPE(fp8_e5m2, float8_e5m2)
TESSERA_DETAIL_DTYPE(std::int64_t, int64)
TESSERA_DETAIL_DTYPE(std::int32_t, int32)
TESSERA_DETAIL_DTYPE(std::int16_t, int16)
TESSERA_DETAIL_DTYPE(std::int8_t, int8)
TESSERA_DETAIL_DTYPE(std::uint64_t, uint64)
TESSERA_DETAIL_DTYPE(std::uint32_t, uint32)
TESSERA_DETAIL_DTYPE(std::uint16_t, uint16)
TESSERA_DETAIL_DTYPE(std::uint8_t, uint8)
TESSERA_DETAIL_DTYPE(bool, boolean)
TESSERA_DETAIL_DTYPE(std::complex<float>, complex64)
TESSERA_DETAIL_DTYPE(std::complex<double>, complex128)
#undef TESSERA_DETAIL_DTYPE

}  // namespace detail

/// An element type that tensor files hold.
template <class T>
concept TensorElement = (detail::dtype_index<std::remove_cv_t<T>> != -1);

template <TensorElement T>
inline constexpr DType dtype_of = static_cast<DType>(detail::dtype_index<std::remove_cv_t<T>>);

/// "F32"
constexpr std::string_view dtype_name(DType dtype) { return detail::dtype_rows[static_cast<std::size_t>(dtype)].name; }
constexpr int dtype_bits(DType dtype) { return detail::dtype_rows[static_cast<std::size_t>(dtype)].bits; }

namespace detail {

/// `f(std::type_identity<T>{})` with the C++ type of `dtype`; unsupported_error naming `what` when it has none.
template <class F>
decltype(auto) visit_dtype(DType dtype, std::string_view what, F&& f) {
  switch (dtype) {
    case DType::float64:
      return f(std::type_identity<double>{});
    case DType::float32:
      return f(std::type_identity<float>{});
    case DType::float16:
      return f(std::type_identity<f16>{});
    case DType::bfloat16:
      return f(std::type_identity<bf16>{});
    case DType::float8_e4m3:
      return f(std::type_identity<fp8_e4m3>{});
    case DType::float8_e5m2:
      return f(std::type_identity<fp8_e5m2>{});
    case DType::int64:
      return f(std::type_identity<std::int64_t>{});
    case DType::int32:
      return f(std::type_identity<std::int32_t>{});
    case DType::int16:
      return f(std::type_identity<std::int16_t>{});
    case DType::int8:
      return f(std::type_identity<std::int8_t>{});
    case DType::uint64:
      return f(std::type_identity<std::uint64_t>{});
    case DType::uint32:
      return f(std::type_identity<std::uint32_t>{});
    case DType::uint16:
      return f(std::type_identity<std::uint16_t>{});
    case DType::uint8:
      return f(std::type_identity<std::uint8_t>{});
    case DType::boolean:
      return f(std::type_identity<bool>{});
    case DType::complex64:
      return f(std::type_identity<std::complex<float>>{});
    case DType::complex128:
      return f(std::type_identity<std::complex<double>>{});
    default:
      throw unsupported_error(
          concat("tessera: ", what, ": values of type ", dtype_name(dtype), " have no C++ type here; take the bytes"));
  }
}

}  // namespace detail
}  // namespace tessera::inline TESSERA_ABI
