/// Shampoo.
#pragma once

#include <tessera/optim/second_order/sides.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// `b2` = 1 sums, less averages, corrected for their start. Roots are taken anew at every `every`-th step, the first
/// among them. Eigenvalues below `floor` of the largest count as that; 0 means 16 units of rounding. A side longer than
/// `max_dim` keeps its diagonal alone.
struct ShampooOptions {
  double b2 = 1;
  double eps = 1e-6;
  Index every = 1;
  Index max_dim = 1024;
  double floor = 0;
};

/// L ← b2·L + w·G Gᵀ,  R ← b2·R + w·Gᵀ G from eps·I, w = 1 for b2 = 1, else 1 - b2;  u ← L^(-1/4) G R^(-1/4). V. Gupta,
/// T. Koren, Y. Singer, "Shampoo: Preconditioned Stochastic Tensor Optimization" (ICML 2018), algorithm 1; the diagonal
/// of long sides as in their §5; averages: R. Anil et al., "Scalable Second Order Optimization for Deep Learning"
/// (2020). A vector is Adagrad's: L is its diagonal, the power -1/2. `graft(scale_by_shampoo(…), scale_by_adam())`
/// takes another method's length. State: 2·(m² + n²) numbers an (m,n). A step is 2·mn(m + n) flops for the sums and
/// 2·mn(m + n) for the product, and at every `every`-th one 11·(m³ + n³) for the roots.
struct ScaleByShampoo {
  static constexpr std::string_view name = "scale_by_shampoo";
  ShampooOptions options;

  template <class T>
  BlockState<T, 4> init(const Parameters<T>& params) const {
    if (options.every < 1)
      throw unsupported_error(
          detail::concat("tessera: scale_by_shampoo: every = ", options.every, "; expected at least 1"));
    BlockState<T, 4> state{{"l", "r", "l_root", "r_root"}, params, [&](const ParameterInfo& p) {
                             if (!detail::is_matrix(p)) return std::array<Index, 4>{p.size(), 0, 0, 0};
                             const Index l = detail::side_size(p.rows, options.max_dim, p.rows),
                                         r = detail::side_size(p.cols, options.max_dim, p.cols);
                             return std::array<Index, 4>{l, r, l, r};
                           }};
    for (std::size_t b = 0; b < params.size(); ++b) {
      const Index sizes[] = {detail::is_matrix(params[b]) ? params[b].rows : params[b].size(), params[b].cols};
      for (std::size_t s = 0; s < 2; ++s) {
        const Index step = state.blocks[b][s].size() == sizes[s] ? 1 : sizes[s] + 1;
        for (Index i = 0; i < state.blocks[b][s].size(); i += step) state.blocks[b][s][i] = static_cast<T>(options.eps);
      }
    }
    return state;
  }

  /// What a block is multiplied by: L^(-1/4) ⊗ R^(-1/4), in the state's memory.
  template <class T>
  detail::Sides<T> preconditioner(BlockState<T, 4>& state, std::size_t b, const ParameterInfo& p) const {
    return detail::sides(state, b, p, 2, 3);
  }

  /// How a block is treated, in words.
  std::string explain(const ParameterInfo& p) const {
    if (!detail::is_matrix(p)) return detail::concat("'", p.name, "' (", p.size(), "): Adagrad, no matrix");
    const auto side = [&](Index n) {
      return n <= options.max_dim ? detail::concat(n, " in full")
                                  : detail::concat("diagonal of ", n, " (more than max_dim ", options.max_dim, ")");
    };
    return detail::concat("'", p.name, "' (", tessera::detail::shape_text(p.rows, p.cols), "): ", side(p.rows), " x ",
                          side(p.cols));
  }

  template <class T>
  void transform(Context& ctx, std::span<const VectorView<T>> updates, BlockState<T, 4>& state,
                 const Parameters<T>& params) const {
    const double take = options.b2 < 1 ? 1 - options.b2 : 1;
    const double whole = options.b2 < 1 ? detail::debias(options.b2, detail::time_of(state.count)) : 1;
    for (std::size_t b = 0; b < params.size(); ++b) {
      if (updates[b].extent(0) == 0) continue;
      if (!detail::is_matrix(params[b])) {
        map(ctx, Adagrad<T>{static_cast<T>(options.b2), static_cast<T>(take), static_cast<T>(whole)}, updates[b],
            state.view(b, 0));
        continue;
      }
      const MatrixView<const T> G(updates[b].data(), params[b].rows, params[b].cols);
      detail::add_outer(ctx, options.b2, take, G, state.view(b, 0));
      detail::add_outer(ctx, options.b2, take, G.transposed(), state.view(b, 1));
      if (state.count % options.every == 0)
        for (std::size_t s = 0; s < 2; ++s)
          root<T>(ctx, whole, s == 0 ? G.rows() : G.cols(), state.view(b, s), state.view(b, s + 2));
      Workspace::Scope scope(ctx.workspace);
      const VectorView<T> from(scope.take<T>(G.size()), G.size());
      detail::copy_to(VectorView<const T>(updates[b]), from.data());
      detail::precondition(ctx, preconditioner(state, b, params[b]), Op::none, VectorView<const T>(from), updates[b]);
    }
    ++state.count;
  }

 private:
  template <class T>
  struct Adagrad {
    T keep, take, whole;
    template <class V>
    TESSERA_INLINE void operator()(V& u, V& sum) const {
      sum = fma(V(keep), sum, V(take) * (u * u));
      u = select(sum == V(T(0)), V(T(0)), u / sqrt(V(whole) * sum));
    }
  };
  /// out ← (whole·S)^(-1/4) of a side.
  template <class T>
  void root(Context& ctx, double whole, Index n, VectorView<const T> S, VectorView<T> out) const {
    const double floor =
        options.floor > 0 ? options.floor : 16 * static_cast<double>(std::numeric_limits<T>::epsilon());
    if (S.extent(0) == n * n)
      detail::symmetric_power<T>(ctx, MatrixView<const T>(S.data(), n, n), -0.25, floor,
                                 MatrixView<T>(out.data(), n, n));
    else
      detail::symmetric_power<T>(S, -0.25, floor, out);
    if (whole != 1) detail::scale_in_place(ctx, std::pow(whole, -0.25), out);
  }
};
inline ScaleByShampoo scale_by_shampoo(ShampooOptions options = {}) {
  detail::checked_decay(ScaleByShampoo::name, "b2", options.b2, true);
  detail::checked_least(ScaleByShampoo::name, "eps", options.eps);
  return {options};
}

}  // namespace tessera::inline TESSERA_ABI::optim
