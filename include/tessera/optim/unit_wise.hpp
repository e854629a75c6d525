/// Links that look at each row of a block: adaptive clipping, centralisation. Row i of a (rows, cols) block W is what
/// makes output i of W·x.
#pragma once

#include <algorithm>
#include <span>
#include <string_view>

#include <tessera/optim/block_state.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {
template <class T>
struct ShiftBy {
  T by;
  template <class V>
  TESSERA_INLINE void operator()(V& u) const {
    u = u + V(by);
  }
};

/// In double, in eight running sums.
template <class T>
double sum(const T* x, Index n) {
  double part[8] = {};
  Index i = 0;
  for (; i + 8 <= n; i += 8)
    for (Index j = 0; j < 8; ++j) part[j] += static_cast<double>(x[i + j]);
  for (; i < n; ++i) part[i % 8] += static_cast<double>(x[i]);
  return ((part[0] + part[4]) + (part[2] + part[6])) + ((part[1] + part[5]) + (part[3] + part[7]));
}

/// `f(worker, row of updates, row of params)` for each row; a vector is one row.
template <class T, class F>
void for_each_row(Context& ctx, VectorView<T> u, const Parameter<T>& p, F&& f) {
  const bool vector = !is_matrix(p);
  const Index rows = p.size() == 0 ? 0 : vector ? 1 : p.rows, cols = vector ? p.size() : p.cols;
  for_each_run(ctx, rows, cols, [&](Context& worker, Index r) {
    f(worker, VectorView<T>(u.data() + r * cols, {cols}), VectorView<const T>(p.data + r * cols, {cols}));
  });
}
}  // namespace detail

/// Each row's norm is kept under clipping·max(norm of the parameters' row, eps); vectors count as one row.
/// A. Brock et al., "High-Performance Large-Scale Image Recognition Without Normalization" (2021), eq. 3;
/// optax.adaptive_grad_clip, which for its (in, out) matrices takes columns. A NaN stays in its row.
struct AdaptiveGradClip {
  static constexpr std::string_view name = "adaptive_grad_clip";
  struct State {};
  double clipping = 0.01, eps = 1e-3;

  template <class T>
  State init(const Parameters<T>&) const {
    return {};
  }
  template <class T>
  void transform(Context& ctx, std::span<const VectorView<T>> updates, State&, const Parameters<T>& params) const {
    for (std::size_t b = 0; b < updates.size(); ++b)
      detail::for_each_row(ctx, updates[b], params[b], [&](Context& worker, VectorView<T> u, VectorView<const T> p) {
        const double norm = detail::norm_of(worker, u), most = clipping * std::max(detail::norm_of(worker, p), eps);
        if (!(norm < most)) detail::scale_in_place(worker, most / std::max(norm, 1e-6), u);
      });
  }
};
inline AdaptiveGradClip adaptive_grad_clip(double clipping, double eps = 1e-3) {
  return {detail::checked_least(AdaptiveGradClip::name, "clipping", clipping),
          detail::checked_least(AdaptiveGradClip::name, "eps", eps)};
}

/// Each row of a matrix less its mean; vectors pass as they are.
/// H. Yong et al., "Gradient Centralization" (ECCV 2020), eq. 1; optax.centralize.
struct Centralize {
  static constexpr std::string_view name = "centralize";
  struct State {};

  template <class T>
  State init(const Parameters<T>&) const {
    return {};
  }
  template <class T>
  void transform(Context& ctx, std::span<const VectorView<T>> updates, State&, const Parameters<T>& params) const {
    for (std::size_t b = 0; b < updates.size(); ++b) {
      if (!detail::is_matrix(params[b])) continue;
      detail::for_each_row(ctx, updates[b], params[b], [](Context& worker, VectorView<T> u, VectorView<const T>) {
        const double mean = detail::sum(u.data(), u.extent(0)) / static_cast<double>(u.extent(0));
        map(worker, detail::ShiftBy<T>{static_cast<T>(-mean)}, u);
      });
    }
  }
};
inline Centralize centralize() { return {}; }

}  // namespace tessera::inline TESSERA_ABI::optim
