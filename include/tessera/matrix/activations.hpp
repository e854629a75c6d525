/// What products with quantized matrices do to their right factor.
#pragma once

#include <tessera/core/config.hpp>

namespace tessera::inline TESSERA_ABI {

/// What W * x does to x. `int8`: rounds it to int8 (the type says with which scales) and multiplies integers.
/// `exact`: multiplies it as it is by decoded weights, several times slower.
enum class Activations { int8, exact };

}  // namespace tessera::inline TESSERA_ABI
