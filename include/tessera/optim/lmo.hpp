/// Steepest descent in norms of a matrix: Scion.
#pragma once

#include <tessera/optim/muon.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// What Scion measures a step by; W (out, in).
enum class StepNorm {
  spectral,  // U·Vᵀ·√(out/in): hidden layers
  columns,   // each column to length √out: an embedding of one-hot inputs
  rows,      // each row to length 1/√in: outputs, each by itself
  sign,      // signs over in: outputs, each entry by itself
  rms        // the block to root mean square 1: gains and biases
};

/// Spectral for matrices, rms for vectors.
struct scion_norms {
  StepNorm operator()(const ParameterInfo& p) const {
    return detail::is_matrix(p) ? StepNorm::spectral : StepNorm::rms;
  }
};

namespace detail {
struct TimesColumns {
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V& factors) const {
    u = u * factors;
  }
};

struct SignTimes {
  double factor;
  template <class V>
  TESSERA_INLINE void operator()(V& u) const {
    u = V(static_cast<typename V::value_type>(factor)) * sign(u);
  }
};
}  // namespace detail

/// u ← radius·the step of norm 1 along which ⟨u, step⟩ is largest, the norm chosen by `norm_of(const ParameterInfo&)`;
/// zeros stay. Behind an average of gradients, and before `add_decayed_weights(1)` and the rate, it is Scion, without
/// the decay its unconstrained form. State: none. T. Pethick et al., "Training Deep Learning Models with
/// Norm-Constrained LMOs" (ICML 2025), algorithms 1, 2, tables 2 to 4.
template <class NormOf>
struct ScaleByLmo {
  static constexpr std::string_view name = "scale_by_lmo";
  struct State {};
  double radius = 1;
  NormOf norm_of{};
  NewtonSchulz newton_schulz{};

  template <class T>
  State init(const Parameters<T>&) const {
    return {};
  }
  template <class T>
  void transform(Context& ctx, std::span<const VectorView<T>> updates, State&, const Parameters<T>& params) const {
    for (std::size_t b = 0; b < params.size(); ++b)
      if (params[b].size() > 0)
        one(ctx, norm_of(static_cast<const ParameterInfo&>(params[b])),
            MatrixView<T>(updates[b].data(), params[b].rows, params[b].cols));
  }

 private:
  template <class T>
  void one(Context& ctx, StepNorm norm, MatrixView<T> u) const {
    const double out = static_cast<double>(u.rows()), in = static_cast<double>(u.cols());
    const VectorView<T> all(u.data(), u.size());
    const auto to_length = [](Context& worker, double length, VectorView<T> x) {
      if (const double now = detail::norm_of(worker, x); now != 0) detail::scale_in_place(worker, length / now, x);
    };
    switch (norm) {
      case StepNorm::spectral:
        orthogonalize(ctx, u, newton_schulz);
        return detail::scale_in_place(ctx, radius * std::sqrt(out / in), all);
      case StepNorm::columns: {
        Workspace::Scope scope(ctx.workspace);
        const VectorView<T> factors(scope.take<T>(u.cols()), u.cols());
        detail::column_squares(ctx, MatrixView<const T>(u), factors);
        for (Index j = 0; j < u.cols(); ++j)
          factors[j] =
              static_cast<T>(factors[j] == T(0) ? 0 : radius * std::sqrt(out / static_cast<double>(factors[j])));
        return detail::for_each_run(ctx, u.rows(), u.cols(), [&](Context& worker, Index i) {
          map(worker, detail::TimesColumns{}, u.row(i), VectorView<const T>(factors));
        });
      }
      case StepNorm::rows:
        return detail::for_each_run(ctx, u.rows(), u.cols(), [&](Context& worker, Index i) {
          to_length(worker, radius / std::sqrt(in), u.row(i));
        });
      case StepNorm::sign:
        return map(ctx, detail::SignTimes{radius / in}, all);
      case StepNorm::rms:
        return to_length(ctx, radius * std::sqrt(static_cast<double>(u.size())), all);
    }
  }
};
template <class NormOf = scion_norms>
ScaleByLmo<NormOf> scale_by_lmo(double radius = 1, NormOf norm_of = {}, NewtonSchulz newton_schulz = {}) {
  return {radius, std::move(norm_of), newton_schulz};
}

}  // namespace tessera::inline TESSERA_ABI::optim
