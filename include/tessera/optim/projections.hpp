/// Steps followed by a projection of the parameters: box, simplex, balls.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <utility>

#include <tessera/optim/proximal.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {
template <class T>
struct Between {  // shifted by `less` first
  T less, low, high;
  template <class V>
  TESSERA_INLINE void operator()(V& p) const {
    p = min(V(high), max(V(low), p - V(less)));
  }
};
/// θ with Σ max(x_i - θ, 0) = total, of |x| with `absolute`; NaN if an element is. By sorting: J. Duchi et al.,
/// "Efficient Projections onto the l1-Ball for Learning in High Dimensions" (ICML 2008), figure 1. O(n log n).
template <class T>
double simplex_threshold(Context& ctx, VectorView<const T> x, double total, bool absolute) {
  const Index n = x.extent(0);
  Workspace::Scope scope(ctx.workspace);
  T* sorted = scope.take<T>(n);
  for (Index i = 0; i < n; ++i) {
    if (std::isnan(x[i])) return std::numeric_limits<double>::quiet_NaN();
    sorted[i] = absolute ? std::abs(x[i]) : x[i];
  }
  std::sort(sorted, sorted + n, std::greater<T>());
  double sum = 0, theta = 0;
  for (Index i = 0; i < n; ++i) {
    sum += static_cast<double>(sorted[i]);
    const double next = (sum - total) / static_cast<double>(i + 1);
    if (i > 0 && static_cast<double>(sorted[i]) <= next) break;
    theta = next;
  }
  return theta;
}
}  // namespace detail

/// Onto low <= p <= high; `project_box{0, infinity}` onto what is not negative.
struct project_box {
  double low = 0, high = std::numeric_limits<double>::infinity();
  template <class T>
  void operator()(Context& ctx, const Parameters<T>& blocks, double) const {
    if (!(low <= high))
      throw unsupported_error(detail::concat("tessera: project_box: ", low, " to ", high, "; expected low <= high"));
    for (const auto& p : blocks)
      map(ctx, detail::Between<T>{T(0), static_cast<T>(low), static_cast<T>(high)}, p.view());
  }
};

/// Each block onto ‖p‖₂ <= radius.
struct project_l2_ball {
  double radius = 1;
  template <class T>
  void operator()(Context& ctx, const Parameters<T>& blocks, double) const {
    detail::checked_least("project_l2_ball", "radius", radius);
    for (const auto& p : blocks)
      if (const double norm = detail::norm_of(ctx, p.view()); !(norm <= radius))
        detail::scale_in_place(ctx, radius / norm, p.view());
  }
};

/// Each block onto p >= 0, Σp = total. O(n log n).
struct project_simplex {
  double total = 1;
  template <class T>
  void operator()(Context& ctx, const Parameters<T>& blocks, double) const {
    detail::checked_least("project_simplex", "total", total);
    for (const auto& p : blocks)
      map(ctx,
          detail::Between<T>{
              static_cast<T>(detail::simplex_threshold(ctx, VectorView<const T>(p.view()), total, false)), T(0),
              std::numeric_limits<T>::infinity()},
          p.view());
  }
};

/// Each block onto ‖p‖₁ <= radius. O(n log n) where it is outside.
struct project_l1_ball {
  double radius = 1;
  template <class T>
  void operator()(Context& ctx, const Parameters<T>& blocks, double) const {
    detail::checked_least("project_l1_ball", "radius", radius);
    for (const auto& p : blocks) {
      double sum = 0;
      for (T x : p.values()) sum += std::abs(static_cast<double>(x));
      if (!(sum <= radius))
        map(ctx,
            detail::Shrink<T>{
                static_cast<T>(detail::simplex_threshold(ctx, VectorView<const T>(p.view()), radius, true))},
            p.view());
    }
  }
};

/// projected(adam(rate), project_simplex{}): parameters stay inside, exactly but for the sums' rounding.
template <class What, class Project, class Mask = everything>
auto projected(const What& what, Project project, Mask mask = {}) {
  return proximal(what, std::move(project), constant{1}, std::move(mask));
}

}  // namespace tessera::inline TESSERA_ABI::optim
