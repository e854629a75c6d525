#pragma once

#include <algorithm>
#include <tessera/io/gguf.hpp>

#include "target.hpp"

namespace tessera::fuzz {

inline void gguf(std::span<const std::uint8_t> input) {
  Gguf file;
  if (!accepts([&] { file = read_gguf(source(input)); })) return;
  std::size_t bytes = 0;
  for (const GgufTensor& tensor : file.tensors()) {
    bytes += tensor.data.size();
    TESSERA_FUZZ_LAW(file.find(tensor.name) == &tensor);
    accepts([&] {
      const auto values = tensor.read();
      TESSERA_FUZZ_LAW(values.size() == tensor.size());
    });
    accepts([&] {
      const auto view = tensor.view<float, 2>();
      float sum = 0;
      for (Index i = 0; i < view.rows() && !view.empty(); ++i)
        for (Index j = 0; j < view.cols(); ++j) sum += view(i, j);
      TESSERA_FUZZ_LAW(sum == sum || sum != sum);
    });
    accepts([&] {
      for (const auto& block : tensor.blocks<Q4_K>()) TESSERA_FUZZ_LAW(Q4_K::scale_code(block, 7) < 64);
    });
  }
  TESSERA_FUZZ_LAW(bytes < input.size());
  for (const auto& [key, value] : file.metadata().entries()) TESSERA_FUZZ_LAW(file.metadata().find(key) == &value);

  // Bytes, not values, are compared: a NaN is no equal of itself.
  MemoryFile written, again;
  write_gguf(written, file.tensors(), file.metadata());
  const auto copy = read_gguf(ByteSource::memory(written.bytes, "(fuzz)"));
  TESSERA_FUZZ_LAW(copy.tensors().size() == file.tensors().size());
  for (const GgufTensor& tensor : file.tensors()) {
    const GgufTensor& same = copy[tensor.name];
    TESSERA_FUZZ_LAW(same.type == tensor.type && same.shape == tensor.shape);
    TESSERA_FUZZ_LAW(std::equal(same.data.begin(), same.data.end(), tensor.data.begin(), tensor.data.end()));
  }
  write_gguf(again, copy.tensors(), copy.metadata());
  TESSERA_FUZZ_LAW(again.bytes == written.bytes);
}

}  // namespace tessera::fuzz
