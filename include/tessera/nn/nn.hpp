/// Every part of this module.
#pragma once

#include <tessera/nn/attention.hpp>
#include <tessera/nn/attention_backward.hpp>
#include <tessera/nn/cross_entropy.hpp>
#include <tessera/nn/elementwise.hpp>
#include <tessera/nn/embedding.hpp>
#include <tessera/nn/gdn.hpp>
#include <tessera/nn/gs_lora.hpp>
#include <tessera/nn/linear.hpp>
#include <tessera/nn/lora.hpp>
#include <tessera/nn/mosa.hpp>
#include <tessera/nn/norm.hpp>
#include <tessera/nn/rope.hpp>
#include <tessera/nn/s2ft.hpp>
#include <tessera/nn/swiglu.hpp>
#include <tessera/nn/wta_crs.hpp>
