/// SM3.
#pragma once

#include <tessera/optim/block_state.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {
template <class T>
struct Sm3Step {
  T row;
  T rows_new[64 / sizeof(T)] = {};
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V& column, V& column_new) {
    const V nu = fma(u, u, min(V(row), column));
    max(V::load(rows_new), nu).store(rows_new);
    column_new = max(column_new, nu);
    u = select(nu == V(T(0)), V(T(0)), u / sqrt(nu));
  }
};

template <class T>
struct Sm3VectorStep {
  template <class V>
  TESSERA_INLINE void operator()(V& u, V& nu) const {
    nu = fma(u, u, nu);
    u = select(nu == V(T(0)), V(T(0)), u / sqrt(nu));
  }
};
}  // namespace detail

/// nu_ij = min(r_i, c_j) + g_ij², u ← g/√nu (0 where nu is), then r_i and c_j are the largest nu of their row and
/// column; a vector keeps its nu. State: rows + cols numbers a matrix, else one a parameter. One pass over memory.
/// R. Anil et al., "Memory-Efficient Adaptive Optimization" (NeurIPS 2019), SM3-II, its momentum left to `trace`.
struct ScaleBySm3 {
  static constexpr std::string_view name = "scale_by_sm3";

  template <class T>
  BlockState<T, 3> init(const Parameters<T>& params) const {
    return {
        {"rows", "cols", "nu"}, params, [](const ParameterInfo& p) {
          return detail::is_matrix(p) ? std::array<Index, 3>{p.rows, p.cols, 0} : std::array<Index, 3>{0, 0, p.size()};
        }};
  }
  template <class T>
  void transform(Context& ctx, std::span<const VectorView<T>> updates, BlockState<T, 3>& state,
                 const Parameters<T>& params) const {
    for (std::size_t b = 0; b < params.size(); ++b) {
      if (detail::is_matrix(params[b]))
        matrix(ctx, MatrixView<T>(updates[b].data(), params[b].rows, params[b].cols), state.view(b, 0),
               state.view(b, 1));
      else
        map(ctx, detail::Sm3VectorStep<T>{}, updates[b], state.view(b, 2));
    }
    ++state.count;
  }

 private:
  template <class T>
  void matrix(Context& ctx, MatrixView<T> u, VectorView<T> rows, VectorView<T> cols) const {
    Workspace::Scope scope(ctx.workspace);
    const Index m = u.rows(), n = u.cols(), panels = (n + detail::column_panel - 1) / detail::column_panel;
    T* most = scope.take<T>(panels * m);
    for_each_chunk(ctx, n, detail::column_panel, [&](Context& worker, Index begin, Index end) {
      T fresh[detail::column_panel] = {};
      for (Index i = 0; i < m; ++i) {
        detail::Sm3Step<T> step{rows[i]};
        map(worker, step, detail::part(u.row(i), begin, end), VectorView<const T>(detail::part(cols, begin, end)),
            VectorView<T>(fresh, end - begin));
        most[begin / detail::column_panel * m + i] =
            *std::max_element(std::begin(step.rows_new), std::end(step.rows_new));
      }
      std::copy_n(fresh, end - begin, cols.data() + begin);
    });
    for (Index i = 0; i < m; ++i) {
      rows[i] = most[i];
      for (Index k = 1; k < panels; ++k) rows[i] = std::max(rows[i], most[k * m + i]);
    }
  }
};
inline ScaleBySm3 scale_by_sm3() { return {}; }

}  // namespace tessera::inline TESSERA_ABI::optim
