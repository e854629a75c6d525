/// Kronecker sums, and exp(A⊕B) = exp(A) ⊗ exp(B).
#pragma once

#include <algorithm>
#include <array>
#include <complex>
#include <concepts>
#include <span>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include <tessera/core/order.hpp>
#include <tessera/matrix/kronecker.hpp>

namespace tessera::inline TESSERA_ABI {

/// A_0 ⊕ A_1 ⊕ … = sum over i of I ⊗ … ⊗ A_i ⊗ … ⊗ I of square operators: the Laplacian of a grid from those of its
/// lines. (N,N), N the product of the sizes. 2·N·sum of sizes flops a column. Parameters: the operators' in order.
template <LinearOperator... As>
class KroneckerSum : public OperatorBase<KroneckerSum<As...>> {
 public:
  using Scalar = scalar_of<std::tuple_element_t<0, std::tuple<As...>>>;
  static_assert((std::same_as<Scalar, scalar_of<As>> && ...),
                "tessera: terms of a Kronecker sum must have the same Scalar");
  static constexpr bool is_view = (tessera::is_view<As> && ...);
  static constexpr Property properties = [] {
    Property common = Property::identity - Property::orthogonal;
    ((common = common & properties_of<As>), ...);
    return common;
  }();

  /// Throws shape_error unless all are square and their sizes have a product.
  explicit KroneckerSum(As... parts) : parts_(std::move(parts)...) {
    each([](const auto& a) {
      if (a.rows() != a.cols())
        throw shape_error(detail::concat("tessera: KroneckerSum of (", tessera::describe(a), "): ", a.rows(),
                                         " rows != ", a.cols(), " columns"));
    });
    Index n = 1;
    each([&](const auto& a) {
      if (__builtin_mul_overflow(n, a.rows(), &n))
        throw shape_error(detail::concat("tessera: KroneckerSum with (", tessera::describe(a),
                                         "): expected sizes whose product can be counted"));
    });
  }

  const std::tuple<As...>& parts() const { return parts_; }
  /// An operator, to change its values; its shape must stay.
  template <std::size_t I>
  auto& part() {
    return std::get<I>(parts_);
  }
  Index rows() const {
    Index n = 1;
    each([&](const auto& a) { n *= a.rows(); });
    return n;
  }
  Index cols() const { return rows(); }

  void apply(Context& ctx, Op op, Scalar alpha, MatrixView<const Scalar> X, Scalar beta, MatrixView<Scalar> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    const std::array<detail::Factor<Scalar>, sizeof...(As)> all = std::apply(
        [&](const As&... a) { return std::array{detail::make_factor<false>(detail::unwrap(a), op)...}; }, parts_);
    detail::for_each_mode_block(ctx, rows(), alpha, X, beta, Y,
                                [&](Context& worker, Index left, Index n, detail::Lines<const Scalar> in, Scalar a,
                                    Scalar b, detail::Lines<Scalar> out) {
                                  Index right = rows();
                                  for (const auto& factor : all) {
                                    right /= factor.rows;
                                    detail::ModeProduct<Scalar>(worker, factor, a, b).run(left, right, n, in, out);
                                    left *= factor.rows;
                                    b = Scalar(1);
                                  }
                                });
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
  double flops(Index n) const {
    double total = 0;
    each([&](const auto& a) {
      if (a.rows() > 0) total += tessera::flops(a, n) * static_cast<double>(rows() / a.rows());
    });
    return total;
  }
  std::string describe() const {
    std::string text;
    each([&](const auto& a) { text += (text.empty() ? "" : " + ") + detail::shape_text(a.rows(), a.cols()); });
    return detail::concat("KroneckerSum ", detail::shape_text(rows(), rows()), " (", text, ")");
  }

  /// Sums of the operators' diagonal entries.
  Eigen::VectorX<Scalar> diagonal() const {
    return combined<Scalar>([](const auto& a) { return detail::factor_diagonal(a); });
  }
  /// tr(A⊕B) = M tr(A) + N tr(B) with the other's size.
  Scalar diagonal_sum() const {
    Scalar total = 0;
    each([&](const auto& a) {
      if (a.rows() > 0) total += static_cast<Scalar>(rows() / a.rows()) * detail::factor_trace(a);
    });
    return total;
  }
  /// All sums of the operators' eigenvalues, ascending where all are of symmetric types.
  auto eigenvalues() const {
    using T = std::conditional_t<(SymmetricOperator<As> && ...), Scalar, std::complex<Scalar>>;
    auto values = combined<T>(
        [](const auto& a) -> Eigen::VectorX<T> { return detail::factor_eigenvalues(a).template cast<T>(); });
    if constexpr (std::same_as<T, Scalar>) std::sort(values.begin(), values.end(), detail::Rising{});
    return values;
  }
  /// ∏ of all sums of the operators' eigenvalues, those that are not real in pairs. O(Σ sizes³ + their product).
  LogDeterminant<Scalar> log_determinant() const {
    LogDeterminant<Scalar> total;
    for (const auto& value : eigenvalues()) {
      total = total * LogDeterminant<Scalar>::of(std::abs(value));
      if (std::imag(value) == Scalar(0) && std::real(value) < Scalar(0)) total.sign = -total.sign;
    }
    return total;
  }

  Index parameter_count() const {
    Index count = 0;
    each([&](const auto& a) { count += detail::parameters_of(a); });
    return count;
  }
  /// Of each operator with X and dY unfolded along its mode.
  void grad(Context& ctx, MatrixView<const Scalar> X, MatrixView<const Scalar> dY, Scalar beta,
            std::span<Scalar> dparams) const {
    detail::check_grad(*this, X, dY, dparams);
    Workspace::Scope scope(ctx.workspace);
    const auto copy = [&](MatrixView<const Scalar> m) {
      const MatrixView<Scalar> to(scope.take<Scalar>(m.size()), m.rows(), m.cols());
      detail::add_scaled<Scalar>(ctx, Scalar(1), m, Scalar(0), to);
      return to;
    };
    const auto x = copy(X), dy = copy(dY);
    Index left = 1, right = rows() * X.cols();
    each([&]<class A>(const A& a) {
      right = a.rows() == 0 ? 0 : right / a.rows();
      if constexpr (Trainable<A>) {
        const auto mine = dparams.first(static_cast<std::size_t>(a.parameter_count()));
        dparams = dparams.subspan(mine.size());
        Scalar scale = beta;
        for (Index l = 0; l < std::max<Index>(left, 1); ++l, scale = Scalar(1)) {
          const auto slab = [&](MatrixView<Scalar> m) {
            return MatrixView<const Scalar>(m.data() + l * a.rows() * right, {a.rows(), right}, {right, 1});
          };
          a.grad(ctx, slab(x), slab(dy), scale, mine);
        }
      }
      left *= a.rows();
    });
  }

 private:
  template <class F>
  void each(F&& f) const {
    std::apply([&](const As&... a) { (f(a), ...); }, parts_);
  }
  /// Sums of one entry of f(part) from each part, the last part's index fastest.
  template <class T, class F>
  Eigen::VectorX<T> combined(F&& f) const {
    if (rows() == 0) return Eigen::VectorX<T>(0);  // one term is empty, others may be huge
    Eigen::VectorX<T> sums = Eigen::VectorX<T>::Zero(1);
    each([&](const auto& a) {
      const Eigen::VectorX<T> values = f(a);
      sums = detail::combine_values(sums, values, [](const T& x, const T& y) { return x + y; });
    });
    return sums;
  }
  std::tuple<As...> parts_;
};

/// A ⊕ B ⊕ …; operands are held as kronecker() holds them. Throws shape_error unless all are square.
template <class... As>
requires(sizeof...(As) >= 1 && (... && (LinearOperator<As> || EigenDense<As>))) auto kronecker_sum(As&&... parts) {
  return KroneckerSum<decltype(detail::hold_factor(std::forward<As>(parts)))...>(
      detail::hold_factor(std::forward<As>(parts))...);
}

/// exp(A⊕B) = exp(A) ⊗ exp(B), for the terms commute.
template <class... As>
auto exponential(const KroneckerSum<As...>& A) {
  return std::apply([](const As&... a) { return kronecker(exp(As(a))...); }, A.parts());
}

}  // namespace tessera::inline TESSERA_ABI
