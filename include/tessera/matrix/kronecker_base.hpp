/// What all Kronecker products share.
#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <concepts>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <tessera/core/order.hpp>
#include <tessera/expr/closed_form.hpp>
#include <tessera/matrix/detail/factor_forms.hpp>
#include <tessera/matrix/kronecker_modes.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

/// What Kronecker products have in common; `Derived` has for_each_factor(f).
template <class Derived, class S>
class KroneckerBase : public OperatorBase<Derived> {
 public:
  using Scalar = S;

  /// Throws shape_error where the products of the sizes do not fit.
  void check_sizes() const {
    Index m = 1, n = 1;
    each([&](const auto& a) {
      if (__builtin_mul_overflow(m, a.rows(), &m) || __builtin_mul_overflow(n, a.cols(), &n))
        throw shape_error(concat("tessera: Kronecker product with (", tessera::describe(a),
                                 "): expected rows and columns that can be counted"));
    });
  }
  Index rows() const {
    Index n = 1;
    each([&](const auto& a) { n *= a.rows(); });
    return n;
  }
  Index cols() const {
    Index n = 1;
    each([&](const auto& a) { n *= a.cols(); });
    return n;
  }

  /// Y (M,N) = alpha * op(A) * X (K,N) + beta * Y: one product along each mode of X's columns as tensors, nothing
  /// permuted. Rows of X and Y contiguous and at least one cache line of columns run best.
  void apply(Context& ctx, Op op, S alpha, MatrixView<const S> X, S beta, MatrixView<S> Y) const {
    if (only_scales(ctx, derived(), op, alpha, X, beta, Y)) return;
    const auto all = factors(op);
    kronecker_apply<S>(ctx, all, alpha, X, beta, Y);
  }

  template <class F>
  void for_each_buffer(F&& f) const {
    each([&](const auto& a) { a.for_each_buffer(f); });
  }
  std::size_t bytes() const {
    std::size_t total = 0;
    each([&](const auto& a) { total += tessera::bytes(a); });
    return total;
  }
  /// From the last mode to the first; with rectangular factors apply may need fewer.
  double flops(Index n) const {
    double total = 0, left = static_cast<double>(cols()), right = static_cast<double>(n);
    std::vector<std::pair<double, double>> sizes;  // columns, rows
    std::vector<double> each_flops;
    each([&](const auto& a) {
      sizes.emplace_back(a.cols(), a.rows());
      each_flops.push_back(tessera::flops(a, 1));
    });
    for (std::size_t i = sizes.size(); i-- > 0;) {
      if (left > 0) left /= sizes[i].first;
      total += left * right * each_flops[i];
      right *= sizes[i].second;
    }
    return total;
  }
  /// Eigenvalues are known of square factors, solutions and inverses of square ones that know theirs.
  bool knows(Form form) const {
    bool all = true;
    each([&](const auto& a) {
      if (form == Form::eigenvalues || form == Form::square_root) all = all && a.rows() == a.cols();
      if (form == Form::log_determinant || form == Form::singular_values || form == Form::eigenvalues)
        all = all && factor_knows(a, form);
      if (form == Form::solve || form == Form::inverse) all = all && a.rows() == a.cols() && tessera::knows(a, form);
    });
    return all;
  }
  std::string describe() const {
    std::string text;
    each([&](const auto& a) { text += (text.empty() ? "" : " x ") + shape_text(a.rows(), a.cols()); });
    return concat("Kronecker ", shape_text(rows(), cols()), " (", text, ")");
  }
  void explain(Context& ctx, Op op, Index n, const KernelSink& sink) const {
    each([&](const auto& a) { explain_operator(a, ctx, op, n, sink); });
  }

  Eigen::MatrixX<S> to_dense() const {
    Eigen::MatrixX<S> product = Eigen::MatrixX<S>::Ones(1, 1);
    each([&](const auto& a) {
      const Eigen::MatrixX<S> right = tessera::to_dense(a);
      Eigen::MatrixX<S> next(product.rows() * right.rows(), product.cols() * right.cols());
      for (Index j = 0; j < product.cols(); ++j)
        for (Index i = 0; i < product.rows(); ++i)
          next.block(i * right.rows(), j * right.cols(), right.rows(), right.cols()) = product(i, j) * right;
      product = std::move(next);
    });
    return product;
  }
  /// Products of the factors' entries; of square factors those of their diagonals, which is all that is asked of them.
  /// O(min(M,N)) times their number.
  Eigen::VectorX<S> diagonal() const {
    if (rows() == 0 || cols() == 0) return Eigen::VectorX<S>(0);  // one factor is empty, others may be huge
    bool square = true;
    each([&](const auto& a) { square = square && a.rows() == a.cols(); });
    if (square) {
      Eigen::VectorX<S> all = Eigen::VectorX<S>::Ones(1);
      each([&](const auto& a) { all = combine_values(all, factor_diagonal(a), [](S x, S y) { return x * y; }); });
      return all;
    }
    std::vector<Eigen::MatrixX<S>> dense;
    each([&](const auto& a) { dense.push_back(tessera::to_dense(a)); });
    Eigen::VectorX<S> d(std::min(rows(), cols()));
    for (Index i = 0; i < d.size(); ++i) {
      Index row = i, col = i;
      d[i] = S(1);
      for (std::size_t f = dense.size(); f-- > 0;) {
        d[i] *= dense[f](row % dense[f].rows(), col % dense[f].cols());
        row /= dense[f].rows();
        col /= dense[f].cols();
      }
    }
    return d;
  }
  /// tr(A⊗B) = tr(A) tr(B) of square factors.
  S diagonal_sum() const {
    bool square = true;
    each([&](const auto& a) { square = square && a.rows() == a.cols(); });
    if (!square) return diagonal().sum();
    S product = 1;
    each([&](const auto& a) { product *= factor_trace(a); });
    return product;
  }
  /// |A⊗B| = |A| |B|
  S frobenius_norm() const {
    S product = 1;
    each([&](const auto& a) { product *= factor_norm(a); });
    return product;
  }
  /// Products of the factors' singular values, descending.
  Eigen::VectorX<S> singular_values() const {
    Eigen::VectorX<S> all = Eigen::VectorX<S>::Ones(1);
    each([&](const auto& a) { all = combine_values(all, factor_singular_values(a), [](S x, S y) { return x * y; }); });
    Eigen::VectorX<S> padded = Eigen::VectorX<S>::Zero(std::min(rows(), cols()));
    padded.head(all.size()) = all;
    std::sort(padded.begin(), padded.end(), Falling{});
    return padded;
  }
  /// The largest and the least of them, without the others.
  std::pair<S, S> singular_range() const {
    S largest = 1, least = 1;
    Index count = 1;
    each([&](const auto& a) {
      const Eigen::VectorX<S> values = factor_singular_values(a);
      count *= values.size();
      if (count == 0) return;
      least *= values[values.size() - 1];
      largest *= std::isnan(least) ? least : values[0];
    });
    if (count == 0) return {S(0), S(0)};
    return {largest, count < std::min(rows(), cols()) ? S(0) : least};
  }
  /// Products of the eigenvalues of square factors, ascending where all factors are of symmetric types.
  auto eigenvalues() const {
    using T = std::conditional_t<has(properties_of<Derived>, Property::symmetric), S, std::complex<S>>;
    Eigen::VectorX<T> all = Eigen::VectorX<T>::Ones(1);
    each([&](const auto& a) {
      const Eigen::VectorX<T> values = factor_eigenvalues(a).template cast<T>();
      all = combine_values(all, values, [](const T& x, const T& y) { return x * y; });
    });
    if constexpr (std::same_as<T, S>) std::sort(all.begin(), all.end(), Rising{});
    return all;
  }
  /// det(A⊗B) = det(A)^N det(B)^M for A (M,M), B (N,N). Square matrices with a factor that is not are singular.
  LogDeterminant<S> log_determinant() const {
    LogDeterminant<S> total;
    bool square = true;
    each([&](const auto& a) { square = square && a.rows() == a.cols(); });
    if (!square) return LogDeterminant<S>::of(S(0));
    each([&](const auto& a) {
      if (rows() > 0) total = total * factor_log_determinant(a).power(rows() / a.rows());
    });
    return total;
  }

  /// Of the factors in order.
  Index parameter_count() const {
    Index count = 0;
    each([&](const auto& a) { count += parameters_of(a); });
    return count;
  }
  /// Of each factor with all others applied to X: as many applications as there are trainable factors.
  void grad(Context& ctx, MatrixView<const S> X, MatrixView<const S> dY, S beta, std::span<S> dparams) const {
    check_grad(derived(), X, dY, dparams);
    auto all = factors(Op::none);
    Workspace::Scope scope(ctx.workspace);
    const Index n = X.cols();
    const MatrixView<S> D(scope.take<S>(dY.size()), dY.rows(), n);
    add_scaled<S>(ctx, S(1), dY, S(0), D);
    std::size_t at = 0;
    each([&]<class A>(const A& a) {
      const std::size_t here = at++;
      if constexpr (Trainable<A>) {
        const auto mine = dparams.first(static_cast<std::size_t>(a.parameter_count()));
        dparams = dparams.subspan(mine.size());
        Index left = 1, right = n;
        for (std::size_t i = 0; i < all.size(); ++i)
          if (i != here) (i < here ? left : right) *= all[i].rows;
        const Factor<S> kept = all[here];
        all[here] = unit(a.cols());
        Workspace::Scope inner(ctx.workspace);
        const MatrixView<S> Z(inner.take<S>(left * right / std::max<Index>(n, 1) * a.cols() * n),
                              n == 0 ? 0 : left * (right / n) * a.cols(), n);
        if (n > 0) kronecker_apply<S>(ctx, all, S(1), X, S(0), Z);
        all[here] = kept;
        S scale = beta;
        for (Index l = 0; l < std::max<Index>(left, 1); ++l, scale = S(1)) {
          const Index width = left == 0 ? 0 : right;
          a.grad(ctx, MatrixView<const S>(Z.data() + l * a.cols() * width, {a.cols(), width}, {width, 1}),
                 MatrixView<const S>(D.data() + l * a.rows() * width, {a.rows(), width}, {width, 1}), scale, mine);
        }
      }
    });
  }

 protected:
  /// What apply multiplies with.
  std::vector<Factor<S>> factors(Op op) const {
    std::vector<Factor<S>> all;
    each([&](const auto& a) { all.push_back(make_factor<false>(unwrap(a), op)); });
    return all;
  }

 private:
  const Derived& derived() const { return static_cast<const Derived&>(*this); }
  template <class F>
  void each(F&& f) const {
    derived().for_each_factor(f);
  }
  /// I (n,n)
  static Factor<S> unit(Index n) {
    Factor<S> f;
    f.kind = Factor<S>::linear;
    f.rows = f.cols = n;
    f.apply = [](const void*, Context& ctx, Op, S alpha, MatrixView<const S> X, S beta, MatrixView<S> Y) {
      add_scaled<S>(ctx, alpha, X, beta, Y);
    };
    return f;
  }
};

}  // namespace detail
}  // namespace tessera::inline TESSERA_ABI
