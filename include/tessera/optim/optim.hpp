/// Every part of this module.
#pragma once

#include <tessera/optim/adam.hpp>
#include <tessera/optim/alias.hpp>
#include <tessera/optim/chain.hpp>
#include <tessera/optim/clip.hpp>
#include <tessera/optim/clip_blocks.hpp>
#include <tessera/optim/decay.hpp>
#include <tessera/optim/finite.hpp>
#include <tessera/optim/hyper.hpp>
#include <tessera/optim/masked.hpp>
#include <tessera/optim/named.hpp>
#include <tessera/optim/nested.hpp>
#include <tessera/optim/noise.hpp>
#include <tessera/optim/parameters.hpp>
#include <tessera/optim/partition.hpp>
#include <tessera/optim/scale.hpp>
#include <tessera/optim/schedules.hpp>
#include <tessera/optim/schedules_more.hpp>
#include <tessera/optim/trace.hpp>
#include <tessera/optim/transform.hpp>
#include <tessera/optim/unit_wise.hpp>
