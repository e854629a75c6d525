#pragma once

#include <tessera/kernels/sign_planes/args.hpp>

namespace tessera::inline TESSERA_ABI {

/// The obvious loops.
struct SignPlanesRef {
  static constexpr std::string_view name = "sign_planes:ref";
  static constexpr Isa isa = Isa::portable;
  static const char* reject(const SignPlanesArgs&) { return nullptr; }

  static void run(const SignPlanesArgs& a, RowRange range) noexcept {
    const Index padded = 8 * a.bytes, all = a.planes * a.rank;
    const auto sign = [&](Index p, Index i, Index j) {
      return detail::byte_signs.of[a.plane[p].signs[i * a.bytes + j / 8]][j % 8];
    };
    for (Index i = range.begin; i < range.end; ++i) {
      for (Index c = 0; c < a.n; ++c) {
        float sum = 0;
        for (Index f = 0; f < all; ++f)
          for (Index j = 0; j < padded; ++j)
            sum += a.plane[f / a.rank].u[i * a.rank + f % a.rank] * sign(f / a.rank, i, j) *
                   a.rows[(c * all + f) * padded + j];
        a.Y(i, c) = a.beta == 0 ? a.alpha * sum : a.alpha * sum + a.beta * a.Y(i, c);
      }
      for (Index j = 0; a.n == 0 && j < padded; ++j) {
        float w = 0;
        for (Index f = 0; f < all; ++f)
          w += a.plane[f / a.rank].u[i * a.rank + f % a.rank] * sign(f / a.rank, i, j) * a.rows[f * padded + j];
        a.out[i * padded + j] = w;
      }
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI
