/// The obvious attention: for each query all scores, their softmax, the weighted sum of values; sums in double.
#pragma once

#include <cmath>
#include <cstddef>
#include <limits>
#include <string_view>

#include <tessera/kernels/attention/args.hpp>

namespace tessera::inline TESSERA_ABI {

struct AttentionRef {
  static constexpr std::string_view name = "attention:ref";
  static constexpr Isa isa = Isa::portable;
  template <class T>
  static const char* reject(const AttentionArgs<T>&) {
    return nullptr;
  }
  /// Two tiles of tokens, one block's scores, one row of sums.
  template <class T>
  static std::size_t scratch(const AttentionArgs<T>& args) {
    Index most = 0;
    for (Index h = 0; h < args.kv_heads; ++h) most = std::max(most, args.length(h));
    return static_cast<std::size_t>(std::max(args.d, args.dv())) * sizeof(T) +
           static_cast<std::size_t>(most + args.dv() + 8) * sizeof(double);
  }
  /// x as the hook leaves it for row r and token j.
  template <class T>
  static double hooked(typename ScoreHook<T>::Change change, const AttentionArgs<T>& args, Index kv_head, Index r,
                       Index j, double x) {
    if (change == nullptr) return x;
    T value = static_cast<T>(x);
    ScoreTile<T> one = args.score_tile(kv_head, r, 1, j, 1);
    one.scores = &value;
    change(args.hook.state, one);
    return static_cast<double>(value);
  }
  template <class T>
  static void run(const AttentionArgs<T>& args, RowRange pieces) noexcept {
    const Index d = args.d, dv = args.dv();
    for (Index p = pieces.begin; p < pieces.end; ++p) {
      const auto piece = args.piece(p);
      double* const sums = reinterpret_cast<double*>(args.scratch_of(pieces.worker));
      double* const scores = sums + dv;
      const auto most = static_cast<std::size_t>(std::max<Index>(piece.end - piece.begin, 0));
      T* const token = reinterpret_cast<T*>(scores + most);
      for (Index r = piece.row; r < piece.row + piece.rows; ++r) {
        const Index i = r / args.group, head = piece.kv_head * args.group + r % args.group;
        const Index end = std::min(piece.end, args.visible_to(piece.kv_head, i));
        double largest = -std::numeric_limits<double>::infinity();
        for (Index j = piece.begin; j < end; ++j) {
          Index stride = 0;
          const T* k = args.keys.tile(args.keys.state, piece.kv_head, j, 1, token, stride);
          double dot = 0;
          for (Index c = 0; c < d; ++c) dot += static_cast<double>(args.Q(head, i, c)) * static_cast<double>(k[c]);
          scores[j - piece.begin] =
              hooked(args.hook.change, args, piece.kv_head, r, j, dot * static_cast<double>(args.scale));
          if (scores[j - piece.begin] > largest || std::isnan(scores[j - piece.begin]))  // a NaN stays
            largest = scores[j - piece.begin];
        }
        double total = 0, surplus = 0;
        for (Index c = 0; c < dv; ++c) sums[c] = 0;
        if (largest > -std::numeric_limits<double>::infinity() || std::isnan(largest))
          for (Index j = piece.begin; j < end; ++j) {
            Index stride = 0;
            const T* v = args.values.tile(args.values.state, piece.kv_head, j, 1, token, stride);
            const double excess = scores[j - piece.begin] - largest;
            double weight = std::exp(excess);
            total += weight;
            if (weight > 0) surplus += weight * excess;
            weight = hooked(args.hook.weigh, args, piece.kv_head, r, j, weight);
            for (Index c = 0; c < dv; ++c) sums[c] += weight * static_cast<double>(v[c]);
          }
        T* const out = args.out.data() + piece.split * args.out_split;
        for (Index c = 0; c < dv; ++c)
          out[head * args.out.stride(0) + i * args.out.stride(1) + c] =
              total == 0 ? T(0) : static_cast<T>(sums[c] / total);
        if (args.lse.data() != nullptr)
          args.lse.data()[piece.split * args.lse_split + head * args.lse.stride(0) + i * args.lse.stride(1)] =
              total == 0 ? -std::numeric_limits<T>::infinity() : static_cast<T>(largest + std::log(total));
        if (args.entropy.data() != nullptr)
          args.entropy
              .data()[piece.split * args.lse_split + head * args.entropy.stride(0) + i * args.entropy.stride(1)] =
              total == 0 ? T(0) : static_cast<T>(std::log(total) - surplus / total);
      }
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI
