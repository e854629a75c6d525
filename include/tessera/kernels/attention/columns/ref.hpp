/// The obvious loop.
#pragma once

#include <cmath>
#include <string_view>

#include <tessera/kernels/attention/columns/args.hpp>

namespace tessera::inline TESSERA_ABI {

struct AttentionColumnsRef {
  static constexpr std::string_view name = "attention_columns:ref";
  static constexpr Isa isa = Isa::portable;
  template <class T>
  static const char* reject(const AttentionColumnsArgs<T>&) {
    return nullptr;
  }
  template <class T>
  static void run(const AttentionColumnsArgs<T>& a, RowRange tokens) noexcept {
    for (Index j = tokens.begin; j < tokens.end; ++j) {
      T sum(0), most(0);
      for (Index r = 0; r < a.rows; ++r) {
        T& score = a.scores[r * a.row_stride + j * a.token_stride];
        score = static_cast<T>(j) < a.seen[r] ? std::exp(score - a.lse[r]) : T(0);
        sum += score;
        most = most < score ? score : most;
      }
      a.sum[j] += sum;
      a.most[j] = a.most[j] < most ? most : a.most[j];
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI
