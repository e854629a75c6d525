/// The policies that need no score: everything, and a window with sinks.
#pragma once

#include <tessera/kv/stages/evict.hpp>
#include <tessera/kv/stages/keep.hpp>
#include <tessera/kv/stages/protect.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// Keeps everything.
inline Chain<> full() { return {}; }

/// G. Xiao et al., "Efficient Streaming Language Models with Attention Sinks" (ICLR 2024), §3.2: the first `sinks`
/// tokens and the `recent` last. Deviation: tokens keep their original positions, where the paper counts positions
/// within the cache; keys are stored already rotated.
struct Window {
  Index sinks = 4;
  Index recent = 64;
  Index room = 0;  // of evict()
};

/// That window as a policy. Throws unsupported_error for sizes below 0.
inline auto window(Window sizes) {
  return protect(kv::sinks(sizes.sinks), kv::recent(sizes.recent)) | keep_protected() | evict(sizes.room);
}

}  // namespace tessera::inline TESSERA_ABI::kv
