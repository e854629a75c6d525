/// Gradients of single examples, clipped and summed, with noise that hides each of them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <tessera/optim/alias.hpp>
#include <tessera/optim/block_state.hpp>
#include <tessera/optim/noise.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {
/// How many examples there are. Throws shape_error unless every block of `examples` has a row of the parameter's
/// elements for each of them.
template <class A, class T>
Index check_examples(const std::vector<A>& params, const Parameters<T>& examples) {
  if (params.size() != examples.size())
    throw shape_error(
        concat("tessera: ", examples.size(), " blocks of examples' gradients, but ", params.size(), " of parameters"));
  const Index count = examples.empty() ? 0 : examples[0].rows;
  for (std::size_t b = 0; b < params.size(); ++b)
    if (examples[b].cols != params[b].size() || examples[b].name != params[b].name || examples[b].rows != count ||
        count < 1)
      throw shape_error(concat("tessera: block ", b, " of examples' gradients is '", examples[b].name, "' (",
                               tessera::detail::shape_text(examples[b].rows, examples[b].cols), "), the parameter '",
                               params[b].name, "' with ", params[b].size(), " elements; expected (",
                               tessera::detail::shape_text(std::max<Index>(count, 1), params[b].size()),
                               "), a row for each example"));
  return count;
}

template <class T>
struct AddTimes {
  T by;
  template <class V>
  TESSERA_INLINE void operator()(V& sum, const V& x) const {
    sum = fma(V(by), x, sum);
  }
};

/// out (n) ← Σ by[i]·row i, rows in order.
template <class T>
void sum_rows(Context& ctx, const Parameter<T>& rows, const double* by, VectorView<T> out) {
  for_each_chunk(ctx, rows.cols, column_panel, [&](Context& worker, Index begin, Index end) {
    const VectorView<T> sum = part(out, begin, end);
    std::fill_n(sum.data(), end - begin, T(0));
    for (Index i = 0; i < rows.rows; ++i)
      map(worker, AddTimes<T>{static_cast<T>(by[i])}, sum,
          VectorView<const T>(rows.data + i * rows.cols + begin, end - begin));
  });
}
/// The squared norms of the rows, added to `squares`.
template <class T>
void add_row_squares(Context& ctx, const Parameter<T>& rows, double* squares) {
  for_each_run(ctx, rows.rows, rows.cols, [&](Context& worker, Index i) {
    squares[i] += sum_squares(worker, VectorView<const T>(rows.data + i * rows.cols, rows.cols));
  });
}
inline double clipping_factor(double square, double most) {  // 1 for zeros and NaN
  const double norm = std::sqrt(square);
  return norm > most ? most / norm : 1;
}
}  // namespace detail

/// out ← Σ over examples of g_i·min(1, norm/‖g_i‖), the norm over all blocks; returns how many were clipped.
/// `examples` has for each block of `out` a row (n) for each example. optax.per_example_global_norm_clip. Reads the
/// gradients twice.
template <class T>
Index per_example_global_norm_clip(Context& ctx, const Parameters<T>& examples, double norm, const Parameters<T>& out) {
  const Index count = detail::check_examples(out, examples);
  Workspace::Scope scope(ctx.workspace);
  double* by = scope.take<double>(count);
  std::fill_n(by, count, 0.0);
  for (const auto& block : examples) detail::add_row_squares(ctx, block, by);
  Index clipped = 0;
  for (Index i = 0; i < count; ++i) clipped += (by[i] = detail::clipping_factor(by[i], norm)) < 1 ? 1 : 0;
  for (std::size_t b = 0; b < out.size(); ++b) detail::sum_rows(ctx, examples[b], by, out[b].view());
  return clipped;
}

/// The same block by block, to norm/√blocks each, or unless `uniform` to norm·√(its elements/all elements); returns how
/// many were clipped of each block. optax.per_example_layer_norm_clip.
template <class T>
std::vector<Index> per_example_layer_norm_clip(Context& ctx, const Parameters<T>& examples, double norm,
                                               const Parameters<T>& out, bool uniform = true) {
  const Index count = detail::check_examples(out, examples);
  double all = 0;
  for (const auto& block : out) all += static_cast<double>(block.size());
  std::vector<Index> clipped(out.size());
  Workspace::Scope scope(ctx.workspace);
  double* by = scope.take<double>(count);
  for (std::size_t b = 0; b < out.size(); ++b) {
    const double share =
        uniform ? 1 / static_cast<double>(out.size()) : static_cast<double>(out[b].size()) / std::max(all, 1.0);
    std::fill_n(by, count, 0.0);
    detail::add_row_squares(ctx, examples[b], by);
    for (Index i = 0; i < count; ++i)
      clipped[b] += (by[i] = detail::clipping_factor(by[i], norm * std::sqrt(share))) < 1 ? 1 : 0;
    detail::sum_rows(ctx, examples[b], by, out[b].view());
  }
  return clipped;
}

/// `noise_multiplier` is the deviation of the noise over `norm`.
struct PrivacyOptions {
  double norm = 1;
  double noise_multiplier = 1;
  std::uint64_t seed = 0;
};

/// An optimizer of the examples' gradients, (examples, n) for a block of n: the inner one sees
/// (Σ g_i·min(1, norm/‖g_i‖) + N(0, (norm·noise_multiplier)²))/examples.
/// M. Abadi et al., "Deep Learning with Differential Privacy" (CCS 2016), algorithm 1;
/// optax.contrib.differentially_private_aggregate in front of any chain. State: seed, count, one number a parameter and
/// the inner state. The generator is Philox, whose seed must be secret for the privacy to hold.
template <class Inner>
struct DifferentiallyPrivate {
  Inner inner;
  PrivacyOptions options;

  template <class T>
  struct State : detail::WrapperState<State<T>, Inner, T> {  // the aggregate
    detail::NoiseState noise;
    Parameters<T> mean;
    State(const Parameters<T>& params, const Inner& opt, std::uint64_t seed)
        : detail::WrapperState<State, Inner, T>(params, opt), noise{seed, 0}, mean(params) {}
    template <class F>
    void list_buffers(const std::string& prefix, F&& f) {
      noise.list_buffers(prefix + "noise.", f);
      this->list_kept(prefix, "aggregate", f);
    }
  };
  template <class T>
  State<T> init(const Parameters<T>& params) const {
    return State<T>(params, inner, options.seed);
  }
  template <class T>
  void update(Context& ctx, const Parameters<T>& examples, State<T>& state, const Parameters<T>& params) const {
    state.check(params);
    for (std::size_t b = 0; b < params.size(); ++b) state.mean[b].data = state.kept[b].data();
    const Index count = detail::check_examples(params, examples);
    per_example_global_norm_clip(ctx, examples, options.norm, state.mean);
    Workspace::Scope scope(ctx.workspace);
    auto* sums = scope.take<VectorView<T>>(static_cast<Index>(params.size()));
    for (std::size_t b = 0; b < params.size(); ++b) sums[b] = state.view(b);
    state.noise.add(ctx, options.norm * options.noise_multiplier, std::span<const VectorView<T>>(sums, params.size()));
    for (std::size_t b = 0; b < params.size(); ++b)
      detail::scale_in_place(ctx, 1 / static_cast<double>(count), state.view(b));
    inner.update(ctx, state.mean, state.inner, params);
  }
};
/// Throws unsupported_error unless norm > 0 and noise_multiplier >= 0.
template <class What>
auto differentially_private(const What& what, PrivacyOptions options) {
  if (!(options.norm > 0 && options.noise_multiplier >= 0))
    throw unsupported_error(detail::concat("tessera: differentially_private: norm ", options.norm,
                                           ", noise_multiplier ", options.noise_multiplier,
                                           "; expected norm > 0 and noise_multiplier >= 0"));
  return DifferentiallyPrivate<detail::optimizer_t<What>>{detail::as_optimizer(what), options};
}
/// optax.contrib.dpsgd.
template <class Rate>
auto dpsgd(Rate rate, PrivacyOptions options) {
  return differentially_private(sgd(rate), options);
}
template <class Rate>
auto dpsgd(Rate rate, PrivacyOptions options, double momentum, bool nesterov = false) {
  return differentially_private(sgd(rate, momentum, nesterov), options);
}

}  // namespace tessera::inline TESSERA_ABI::optim
