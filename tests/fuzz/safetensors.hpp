#pragma once

#include <algorithm>
#include <tessera/io/safetensors.hpp>

#include "target.hpp"

namespace tessera::fuzz {

inline void safetensors(std::span<const std::uint8_t> input) {
  Safetensors file;
  if (!accepts([&] { file = read_safetensors(source(input)); })) return;
  std::size_t bytes = 0;
  for (const Tensor& tensor : file.tensors()) {
    bytes += tensor.data.size();
    TESSERA_FUZZ_LAW(file.find(tensor.name) == &tensor);
    accepts([&] {
      const auto values = tensor.read<double>();
      TESSERA_FUZZ_LAW(values.size() == tensor.size());
    });
    accepts([&] { tensor.read<std::int8_t>(); });
    accepts([&] {
      const auto view = tensor.view<float, 2>();
      float sum = 0;
      for (Index i = 0; i < view.rows() && !view.empty(); ++i)
        for (Index j = 0; j < view.cols(); ++j) sum += view(i, j);
      TESSERA_FUZZ_LAW(sum == sum || sum != sum);
    });
  }
  TESSERA_FUZZ_LAW(bytes < input.size());

  MemoryFile written;
  write_safetensors(written, file.tensors(), file.metadata());
  const auto again = read_safetensors(ByteSource::memory(written.bytes, "(fuzz)"));
  TESSERA_FUZZ_LAW(again.metadata() == file.metadata());
  TESSERA_FUZZ_LAW(again.tensors().size() == file.tensors().size());
  for (const Tensor& tensor : file.tensors()) {
    const Tensor& copy = again[tensor.name];
    TESSERA_FUZZ_LAW(copy.dtype == tensor.dtype && copy.shape == tensor.shape);
    TESSERA_FUZZ_LAW(std::equal(copy.data.begin(), copy.data.end(), tensor.data.begin(), tensor.data.end()));
  }
}

}  // namespace tessera::fuzz
