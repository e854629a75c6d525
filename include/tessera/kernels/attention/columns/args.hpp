/// Scores of a tile to softmax weights, and what each of its tokens receives.
#pragma once

#include <tessera/core/config.hpp>
#include <tessera/kernels/kernel.hpp>

namespace tessera::inline TESSERA_ABI {

/// scores[r * row_stride + j * token_stride] := e^(score - lse[r]) where j < seen[r], else 0; then sum[j] += the sum
/// over the rows, most[j] := the largest of it and them. Rows with seen[r] = 0 may have any finite lse. Kernels cut
/// tokens.
template <class T>
struct AttentionColumnsArgs : KernelArgs {
  T* scores = nullptr;
  Index row_stride = 0, token_stride = 0, rows = 0, count = 0;
  const T* lse = nullptr;   // (rows)
  const T* seen = nullptr;  // (rows)
  T* sum = nullptr;         // (count)
  T* most = nullptr;        // (count)

  bool along_tokens() const { return token_stride == 1 || count == 1; }
  bool along_rows() const { return row_stride == 1 || rows == 1; }
};

}  // namespace tessera::inline TESSERA_ABI
