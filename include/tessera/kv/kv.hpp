/// The KV module as a whole, but for calibrate.hpp and matryoshka.hpp, which few programs need and compilers feel.
#pragma once

#include <tessera/kv/any.hpp>
#include <tessera/kv/batch.hpp>
#include <tessera/kv/cache.hpp>
#include <tessera/kv/cachegen.hpp>
#include <tessera/kv/cachegen_caches.hpp>
#include <tessera/kv/cachegen_controller.hpp>
#include <tessera/kv/codecs/channel_shrunk.hpp>
#include <tessera/kv/codecs/gear.hpp>
#include <tessera/kv/codecs/int8.hpp>
#include <tessera/kv/codecs/kivi.hpp>
#include <tessera/kv/codecs/plain.hpp>
#include <tessera/kv/codecs/rotated.hpp>
#include <tessera/kv/codecs/staircase.hpp>
#include <tessera/kv/observe.hpp>
#include <tessera/kv/scorers/accumulated_attention.hpp>
#include <tessera/kv/scorers/key_norm.hpp>
#include <tessera/kv/stages/evict.hpp>
#include <tessera/kv/stages/keep.hpp>
#include <tessera/kv/stages/protect.hpp>
#include <tessera/kv/stages/score.hpp>
#include <tessera/kv/stages/window.hpp>
#include <tessera/kv/storages/paged.hpp>
#include <tessera/kv/storages/virtual.hpp>
