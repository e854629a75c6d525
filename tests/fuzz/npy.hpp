#pragma once

#include <algorithm>
#include <array>
#include <complex>
#include <tessera/io/npy.hpp>

#include "target.hpp"

namespace tessera::fuzz {

/// What `write_npy` writes of the array read as T reads back with the same bits.
template <class T, int Rank>
void npy_round_trip(const Tensor& array) {
  if (array.rank() != Rank || array.dtype != dtype_of<T>) return;
  const auto values = array.read<T>();
  std::array<Index, Rank> extents;
  std::copy_n(array.shape.begin(), Rank, extents.begin());
  MemoryFile written;
  write_npy(written, View<const T, Rank>(values.data(), extents));
  const auto again = read_npy(ByteSource::memory(written.bytes, "(fuzz)"));
  TESSERA_FUZZ_LAW(again.shape == array.shape && again.dtype == array.dtype && !again.column_major && !again.swapped);
  const auto bytes = std::as_bytes(std::span<const T>(values));
  TESSERA_FUZZ_LAW(std::equal(again.data.begin(), again.data.end(), bytes.begin(), bytes.end()));
  if (array.reject_view<T, Rank>() == nullptr) {
    MemoryFile seen;
    write_npy(seen, array.view<T, Rank>());
    TESSERA_FUZZ_LAW(seen.bytes == written.bytes);
  }
}

template <class T>
void npy_round_trips(const Tensor& array) {
  npy_round_trip<T, 1>(array);
  npy_round_trip<T, 2>(array);
  npy_round_trip<T, 3>(array);
}

inline void npy(std::span<const std::uint8_t> input) {
  Tensor array;
  if (!accepts([&] { array = read_npy(source(input)); })) return;
  TESSERA_FUZZ_LAW(array.data.size() < input.size());
  accepts([&] { TESSERA_FUZZ_LAW(array.read<double>().size() == array.size()); });
  accepts([&] { array.read<std::complex<float>>(); });
  accepts([&] { array.read<std::uint16_t>(); });
  npy_round_trips<float>(array);
  npy_round_trips<std::int16_t>(array);
  npy_round_trips<std::uint8_t>(array);
}

}  // namespace tessera::fuzz
