/// Transposition, where an operation takes it as an argument.
#pragma once

#include <tessera/core/config.hpp>

namespace tessera::inline TESSERA_ABI {

/// op(A) in `Y = alpha*op(A)*X + beta*Y`.
enum class Op { none, transpose };

constexpr Op flip(Op op) { return op == Op::none ? Op::transpose : Op::none; }

}  // namespace tessera::inline TESSERA_ABI
