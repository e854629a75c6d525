/// The obvious loops.
#pragma once

#include <tessera/kernels/project_one/args.hpp>

namespace tessera::inline TESSERA_ABI {

struct ProjectOneRef {
  static constexpr std::string_view name = "project_one:ref";
  static constexpr Isa isa = Isa::portable;
  template <class T>
  static const char* reject(const ProjectOneArgs<T>&) {
    return nullptr;
  }
  template <class T>
  static void run(const ProjectOneArgs<T>& a, RowRange pieces) noexcept {
    for (Index c = pieces.begin; c < pieces.end; ++c) {
      double squares = 0;
      const Index top = a.down ? a.first : a.begin(c), bottom = a.down ? a.last : a.end(c);
      for (Index i = top; i < bottom; ++i) {
        if (!a.down) a.r[i] = T(0);
        for (Index j = a.down ? a.begin(c) : 0; j < (a.down ? a.end(c) : a.G.cols()); ++j) {
          const T g = a.G(i, j);
          squares += static_cast<double>(g) * static_cast<double>(g);
          (a.down ? a.r[j] : a.r[i]) += g * (a.down ? a.p[i] : a.p[j]);
        }
      }
      a.squares[c] = squares;
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI
