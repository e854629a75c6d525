/// Which subgroups of an offloaded optimizer the host updates and which the accelerator.
/// A. Maurya et al., "Deep Optimizer States: Towards Scalable Training of Transformer Models Using Interleaved
/// Offloading" (Middleware 2024), §4.2: its performance model, solved exactly instead of for one stride.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>
#include <vector>

#include <tessera/core/config.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// Seconds a subgroup takes. States lie on the host: to be updated on the device, one is received there, updated and
/// returned; after an update on the host its 16-bit parameters are sent.
struct OffloadCosts {
  double host_update = 1, host_send = 0;
  double device_receive = 0, device_update = 0, device_return = 0;
};

namespace detail {
/// When host, link to the device, device and link back are free. Each serves subgroups in their order.
using FreeAt = std::array<double, 4>;

inline FreeAt after(FreeAt t, bool on_device, const OffloadCosts& c) {
  auto& [host, down, device, up] = t;
  if (on_device) {
    down += c.device_receive;
    device = std::max(device, down) + c.device_update;
    up = std::max(up, device) + c.device_return;
  } else {
    host += c.host_update;
    down = std::max(down, host) + c.host_send;
  }
  return t;
}
inline double end_of(const FreeAt& t) { return *std::max_element(t.begin(), t.end()); }
}  // namespace detail

/// When all is done, for each subgroup on the device or not.
inline double offload_time(const std::vector<bool>& on_device, const OffloadCosts& costs) {
  detail::FreeAt t{};
  for (const bool device : on_device) t = detail::after(t, device, costs);
  return detail::end_of(t);
}

/// The paper's: every stride-th subgroup on the device; stride 0 none.
inline std::vector<bool> strided_schedule(Index n, Index stride) {
  std::vector<bool> on_device;
  for (Index i = 0; i < n; ++i) on_device.push_back(stride > 0 && (i + 1) % stride == 0);
  return on_device;
}

/// A quickest schedule of n equal subgroups in their order. Times free are kept for all beginnings but those that
/// another is no later than everywhere; the longer the worse everywhere, so none of the best is lost. The fronts stay
/// short: a count of subgroups on the host fixes its time.
inline std::vector<bool> interleaved_schedule(Index n, const OffloadCosts& costs) {
  struct Beginning {
    detail::FreeAt free{};
    std::vector<bool> on_device;
  };
  std::vector<Beginning> front(1);
  for (Index i = 0; i < n; ++i) {
    std::vector<Beginning> next;
    for (const auto& b : front)
      for (const bool device : {false, true}) {
        Beginning longer{detail::after(b.free, device, costs), b.on_device};
        longer.on_device.push_back(device);
        next.push_back(std::move(longer));
      }
    std::sort(next.begin(), next.end(), [](const Beginning& a, const Beginning& b) { return a.free < b.free; });
    front.clear();
    for (auto& b : next) {
      const bool worse = std::any_of(front.begin(), front.end(), [&](const Beginning& other) {
        for (std::size_t k = 0; k < 4; ++k)
          if (other.free[k] > b.free[k]) return false;
        return true;
      });
      if (!worse) front.push_back(std::move(b));
    }
  }
  return std::min_element(
             front.begin(), front.end(),
             [](const Beginning& a, const Beginning& b) { return detail::end_of(a.free) < detail::end_of(b.free); })
      ->on_device;
}

}  // namespace tessera::inline TESSERA_ABI::optim
