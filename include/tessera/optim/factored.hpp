/// Adafactor's second moments, by rows and columns.
#pragma once

#include <tessera/optim/block_state.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// b2 at step t is 1 - t^-decay; blocks with both sides of `min_dim` at least are factored.
struct FactoredRmsOptions {
  double decay = 0.8;
  double eps = 1e-30;
  Index min_dim = 128;
};

namespace detail {
template <class T>
struct FactoredStep {
  T row;
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V& column) const {
    u = u * (V(row) * column);
  }
};

template <class T>
struct UnfactoredStep {
  Average<T> average;
  T eps;
  template <class V>
  TESSERA_INLINE void operator()(V& u, V& nu) const {
    nu = average(nu, fma(u, u, V(eps)));
    u = select(nu == V(T(0)), V(T(0)), u / sqrt(nu));
  }
};
}  // namespace detail

/// Adafactor's direction: with R and C the averages of g² + eps over a matrix's rows and columns,
/// u_ij ← g_ij/√(R_i·C_j/mean(R)); blocks too small are g/√nu in full. State: rows + cols numbers a matrix, else one a
/// parameter. Reads a matrix three times. N. Shazeer, M. Stern, "Adafactor: Adaptive Learning Rates with Sublinear
/// Memory Cost" (ICML 2018), algorithm 4, §7; optax.scale_by_factored_rms.
struct ScaleByFactoredRms {
  static constexpr std::string_view name = "scale_by_factored_rms";
  FactoredRmsOptions options;

  bool factored(const ParameterInfo& p) const {
    return detail::is_matrix(p) && std::min(p.rows, p.cols) >= options.min_dim;
  }
  template <class T>
  BlockState<T, 3> init(const Parameters<T>& params) const {
    return {{"rows", "cols", "nu"}, params, [&](const ParameterInfo& p) {
              return factored(p) ? std::array<Index, 3>{p.rows, p.cols, 0} : std::array<Index, 3>{0, 0, p.size()};
            }};
  }
  template <class T>
  void transform(Context& ctx, std::span<const VectorView<T>> updates, BlockState<T, 3>& state,
                 const Parameters<T>& params) const {
    const double b2 = 1 - std::pow(detail::time_of(state.count), -options.decay);
    for (std::size_t b = 0; b < params.size(); ++b) {
      if (state.blocks[b][0].size() > 0)  // as it was made, whatever `min_dim` is now
        matrix(ctx, b2, MatrixView<T>(updates[b].data(), params[b].rows, params[b].cols), state.view(b, 0),
               state.view(b, 1));
      else
        map(ctx, detail::UnfactoredStep<T>{detail::Average<T>(b2), static_cast<T>(options.eps)}, updates[b],
            state.view(b, 2));
    }
    ++state.count;
  }

 private:
  template <class T>
  void matrix(Context& ctx, double b2, MatrixView<T> u, VectorView<T> rows, VectorView<T> cols) const {
    Workspace::Scope scope(ctx.workspace);
    const Index m = u.rows(), n = u.cols();
    const VectorView<T> sums(scope.take<T>(n), n);
    const auto take = [&](T& kept, double mean) {
      kept = static_cast<T>(b2 * static_cast<double>(kept) + (1 - b2) * (mean + options.eps));
    };
    detail::column_squares(ctx, MatrixView<const T>(u), sums);
    for (Index j = 0; j < n; ++j) {
      take(cols[j], static_cast<double>(sums[j]) / static_cast<double>(m));
      sums[j] = cols[j] > 0 ? static_cast<T>(1 / std::sqrt(static_cast<double>(cols[j]))) : T(0);
    }
    detail::for_each_run(ctx, m, n, [&](Context& worker, Index i) {
      take(rows[i], sum_squares(worker, VectorView<const T>(u.row(i))) / static_cast<double>(n));
    });
    double mean = 0;
    for (Index i = 0; i < m; ++i) mean += static_cast<double>(rows[i]) / static_cast<double>(m);
    detail::for_each_run(ctx, m, n, [&](Context& worker, Index i) {
      const double row = rows[i] > 0 ? std::sqrt(mean / static_cast<double>(rows[i])) : 0;
      map(worker, detail::FactoredStep<T>{static_cast<T>(row)}, u.row(i), VectorView<const T>(sums));
    });
  }
};
inline ScaleByFactoredRms scale_by_factored_rms(FactoredRmsOptions options = {}) {
  detail::checked_least(ScaleByFactoredRms::name, "decay", options.decay);
  detail::checked_least(ScaleByFactoredRms::name, "eps", options.eps);
  return {options};
}

}  // namespace tessera::inline TESSERA_ABI::optim
