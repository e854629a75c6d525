/// The f16 of a block, wherever it lies.
#pragma once

#include <tessera/core/config.hpp>
#include <tessera/core/types.hpp>

namespace tessera::inline TESSERA_ABI::detail {

/// block.d, or what F says: IQ1_M has it in four parts.
template <class F>
f16 block_d(const typename F::Block& block) {
  if constexpr (requires { F::d(block); })
    return F::d(block);
  else
    return block.d;
}
template <class F>
void set_block_d(typename F::Block& block, f16 d) {
  if constexpr (requires { F::set_d(block, d); })
    F::set_d(block, d);
  else
    block.d = d;
}

}  // namespace tessera::inline TESSERA_ABI::detail
