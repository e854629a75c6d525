/// Every part of this module.
#pragma once

#include <tessera/optim/adam.hpp>
#include <tessera/optim/alias.hpp>
#include <tessera/optim/chain.hpp>
#include <tessera/optim/clip.hpp>
#include <tessera/optim/decay.hpp>
#include <tessera/optim/parameters.hpp>
#include <tessera/optim/scale.hpp>
#include <tessera/optim/schedules.hpp>
#include <tessera/optim/trace.hpp>
#include <tessera/optim/transform.hpp>
