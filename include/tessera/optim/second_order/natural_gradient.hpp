/// Natural gradient by conjugate gradients.
#pragma once

#include <algorithm>
#include <utility>

#include <tessera/optim/second_order/flat.hpp>
#include <tessera/solve/krylov.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// `radius` > 0 shortens the update u to uᵀF u/2 <= radius, taken as uᵀg/2 (a trust region in Kullback-Leibler
/// divergence).
struct NaturalGradientOptions {
  double damping = 1e-4;
  SolveOptions solve{.tolerance = 1e-6, .max_iterations = 50};
  double radius = 0;
};

namespace detail {

/// v → F v + λ·v of a user's product, as an operator.
template <class T, class F>
class DampedProduct : public OperatorBase<DampedProduct<T, F>> {
 public:
  using Scalar = T;
  DampedProduct(Index d, const F& product, double damping) : d_(d), product_(&product), damping_(damping) {}
  Index rows() const { return d_; }
  Index cols() const { return d_; }
  void apply(Context& ctx, Op, T alpha, MatrixView<const T> X, T beta, MatrixView<T> Y) const {
    Workspace::Scope scope(ctx.workspace);
    const VectorView<T> v(scope.take<T>(d_), d_), Fv(scope.take<T>(d_), d_);
    for (Index j = 0; j < X.cols(); ++j) {
      for (Index i = 0; i < d_; ++i) v[i] = X(i, j);
      (*product_)(ctx, VectorView<const T>(v), Fv);
      for (Index i = 0; i < d_; ++i)
        Y(i, j) = alpha * (Fv[i] + static_cast<T>(damping_) * v[i]) + (beta == T(0) ? T(0) : beta * Y(i, j));
    }
  }
  template <class G>
  void for_each_buffer(G&&) const {}

 private:
  Index d_;
  const F* product_;
  double damping_;
};

}  // namespace detail

/// u ← (F + λ·I)⁻¹ u by conjugate gradients, from `product(ctx, v, Fv)`, F's (or a Gauss-Newton matrix's) product with
/// a vector over all blocks (d), at the current parameters; it is called within `update`. S. Amari, "Natural Gradient
/// Works Efficiently in Learning" (1998); J. Martens, "Deep learning via Hessian-free optimization" (2010). One product
/// an iteration. The state keeps the last solution's Status; one that has not converged is used all the same, as
/// Hessian-free does. State: none.
template <class Product>
struct ScaleByNaturalGradient {
  static constexpr std::string_view name = "scale_by_natural_gradient";
  Product product;
  NaturalGradientOptions options;

  struct State {
    Index dim = 0;
    Status status;
  };
  template <class T>
  State init(const Parameters<T>& params) const {
    return {detail::total_size(params), {}};
  }
  template <class T>
  void transform(Context& ctx, std::span<const VectorView<T>> updates, State& state, const Parameters<T>&) const {
    Eigen::VectorX<T> g(state.dim), u(state.dim);
    const VectorView<T> flat(g.data(), state.dim), solved(u.data(), state.dim);
    detail::gather(updates, flat);
    const detail::DampedProduct<T, Product> F(state.dim, product, options.damping);
    state.status = cg(LinearMap<T>(ctx, F), g, u, options.solve);
    if (options.radius > 0) {
      const double change = detail::dot(ctx, VectorView<const T>(flat), VectorView<const T>(solved)) / 2;
      if (change > options.radius) detail::scale_in_place(ctx, std::sqrt(options.radius / change), solved);
    }
    detail::scatter(VectorView<const T>(solved), updates);
  }
};
template <class Product>
ScaleByNaturalGradient<Product> scale_by_natural_gradient(Product product, NaturalGradientOptions options = {}) {
  return {std::move(product), options};
}

}  // namespace tessera::inline TESSERA_ABI::optim
