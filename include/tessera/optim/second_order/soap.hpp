/// SOAP.
#pragma once

#include <Eigen/QR>
#include <numeric>
#include <vector>

#include <tessera/core/order.hpp>
#include <tessera/optim/adam.hpp>
#include <tessera/optim/second_order/sides.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// A side longer than `max_dim` is not rotated. `b2` is that of nu and of L and R.
struct SoapOptions {
  double b1 = 0.95;
  double b2 = 0.95;
  double eps = 1e-8;
  Index every = 10;
  Index max_dim = 4096;
};

/// Adam in Shampoo's eigenbasis: with rot(X) = Q_Lᵀ X Q_R and t from 1,
///   mu ← b1·mu + (1-b1)·g,  nu ← b2·nu + (1-b2)·rot(g)²,
///   u ← rot⁻¹(rot(mu)/(1-b1^t) / (√(nu/(1-b2^t)) + eps)),
///   L ← b2·L + (1-b2)·g gᵀ,  R ← b2·R + (1-b2)·gᵀ g,  and at every `every`-th step Q ← QR(L·Q), a step of power
/// iteration, its columns in falling order of diag(Qᵀ L Q), along with nu's lines. N. Vyas et al., "SOAP: Improving and
/// Stabilizing Shampoo using Adam" (ICLR 2025), algorithm 3. As in the authors' program the first step only finds L, R
/// and their eigenvectors, in whose basis the very gradient they come from is diagonal, the rest of it rounding, which
/// Adam would blow up to ±1; its update is zero. Vectors get Adam from the second step on, too. State: 2·mn +
/// 2·(m² + n²) numbers an (m,n). A step is 8·mn(m + n) flops, and every `every`-th (10/3)·(m³ + n³) more.
struct ScaleBySoap {
  static constexpr std::string_view name = "scale_by_soap";
  SoapOptions options;

  template <class T>
  BlockState<T, 6> init(const Parameters<T>& params) const {
    if (options.every < 1)
      throw unsupported_error(
          detail::concat("tessera: scale_by_soap: every = ", options.every, "; expected at least 1"));
    return {{"mu", "nu", "l", "r", "q_l", "q_r"}, params, [&](const ParameterInfo& p) {
              const Index l = detail::is_matrix(p) ? detail::side_size(p.rows, options.max_dim, 0) : 0,
                          r = detail::is_matrix(p) ? detail::side_size(p.cols, options.max_dim, 0) : 0;
              return std::array<Index, 6>{p.size(), p.size(), l, r, l, r};
            }};
  }
  /// Q_L ⊗ Q_R, in the state's memory: out of the eigenbasis; its transpose leads into it.
  template <class T>
  detail::Sides<T> rotation(BlockState<T, 6>& state, std::size_t b, const ParameterInfo& p) const {
    return detail::sides(state, b, p, 4, 5);
  }

  template <class T>
  void transform(Context& ctx, std::span<const VectorView<T>> updates, BlockState<T, 6>& state,
                 const Parameters<T>& params) const {
    const double t = static_cast<double>(state.count);
    const bool first = state.count == 0;
    for (std::size_t b = 0; b < params.size(); ++b) {
      const Index size = params[b].size();
      if (size == 0) continue;
      Workspace::Scope scope(ctx.workspace);
      const auto temporary = [&] { return VectorView<T>(scope.take<T>(size), size); };
      const VectorView<T> g = temporary(), rotated = temporary();
      detail::copy_to(VectorView<const T>(updates[b]), g.data());
      if (!first) {
        const auto Q = rotation(state, b, params[b]);
        const VectorView<T> mu = state.view(b, 0);
        detail::blend(ctx, options.b1, mu, 1 - options.b1, VectorView<const T>(g));
        detail::precondition(ctx, Q, Op::transpose, VectorView<const T>(g), updates[b]);
        detail::precondition(ctx, Q, Op::transpose, VectorView<const T>(mu), rotated);
        map(ctx,
            Direction<T>{detail::Average<T>(options.b2),
                         static_cast<T>(detail::debias(options.b1, t)),
                         {detail::debias(options.b2, t), 0, options.eps}},
            rotated, VectorView<const T>(updates[b]), state.view(b, 1));
        detail::precondition(ctx, Q, Op::none, VectorView<const T>(rotated), updates[b]);
      } else {
        std::fill_n(updates[b].data(), size, T(0));
      }
      const MatrixView<const T> G(g.data(), params[b].rows, params[b].cols);
      for (std::size_t s = 0; s < 2; ++s) {
        if (state.blocks[b][2 + s].size() == 0) continue;
        detail::add_outer(ctx, options.b2, 1 - options.b2, s == 0 ? G : G.transposed(), state.view(b, 2 + s));
        if (first || state.count % options.every == 0) refresh<T>(ctx, first, G.rows(), G.cols(), s, state.blocks[b]);
      }
    }
    ++state.count;
  }

 private:
  template <class T>
  struct Direction {
    detail::Average<T> second;
    T mu_factor;
    detail::Root<T> root;
    template <class V>
    TESSERA_INLINE void operator()(V& mu, const V& g, V& nu) const {
      nu = second(nu, g * g);
      mu = V(mu_factor) * mu / root(nu);
    }
  };

  /// Q of side s (0: rows) anew. Of what is not finite, Q is NaN.
  template <class T>
  static void refresh(Context& ctx, bool first, Index rows, Index cols, std::size_t s,
                      std::array<Buffer<T>, 6>& block) {
    using Matrix = Eigen::MatrixX<T>;
    const Index n = s == 0 ? rows : cols;
    const MatrixView<T> S(block[2 + s].data(), n, n), Q(block[4 + s].data(), n, n);
    if (!detail::eigen_map(S).allFinite())
      return void(detail::eigen_map(Q).setConstant(std::numeric_limits<T>::quiet_NaN()));
    if (first) {
      detail::eigen_map(Q) =
          Eigen::SelfAdjointEigenSolver<Matrix>(Matrix(detail::eigen_map(S))).eigenvectors().rowwise().reverse();
      return;
    }
    Matrix SQ(n, n);
    gemm(ctx, T(1), MatrixView<const T>(S), MatrixView<const T>(Q), T(0), view(SQ));
    const Eigen::VectorX<T> values = detail::eigen_map(Q).cwiseProduct(SQ).colwise().sum();
    Eigen::VectorXi order(n);
    std::iota(order.data(), order.data() + n, 0);
    std::sort(order.data(), order.data() + n, tessera::detail::FallingScores{values});
    Eigen::Map<Eigen::Matrix<T, -1, -1, Eigen::RowMajor>> nu(block[1].data(), rows, cols);
    nu = s == 0 ? Matrix(nu(order, Eigen::all)) : Matrix(nu(Eigen::all, order));
    const Eigen::HouseholderQR<Matrix> qr(Matrix(SQ(Eigen::all, order)));
    detail::eigen_map(Q) = Matrix(qr.householderQ());
  }
};
inline ScaleBySoap scale_by_soap(SoapOptions options = {}) {
  return {detail::checked_options(ScaleBySoap::name, options)};
}

}  // namespace tessera::inline TESSERA_ABI::optim
