/// Kronecker products of any number of factors:
///   (A⊗B)(C⊗D) = AC ⊗ BD   (A⊗B)ᵀ = Aᵀ ⊗ Bᵀ   (A⊗B)⁻¹ = A⁻¹ ⊗ B⁻¹   (A⊗B)⁺ = A⁺ ⊗ B⁺
#pragma once

#include <concepts>
#include <string>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include <tessera/expr/properties.hpp>
#include <tessera/matrix/kronecker_base.hpp>
#include <tessera/matrix/low_rank.hpp>
#include <tessera/solve/functions.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

template <class A>
concept Invertible = requires(const A& a) {
  inverted(a);
}
|| Solvable<A>;

}  // namespace detail

/// A_0 ⊗ A_1 ⊗ … of any operators, rectangular or not: (product of rows, product of columns), the last factor's index
/// fastest. 2·n·sum of the factors' rows flops a column of n for square ones. Parameters: the factors' in order.
template <LinearOperator... As>
class Kronecker
    : public detail::KroneckerBase<Kronecker<As...>, scalar_of<std::tuple_element_t<0, std::tuple<As...>>>> {
 public:
  using Scalar = scalar_of<std::tuple_element_t<0, std::tuple<As...>>>;
  static_assert((std::same_as<Scalar, scalar_of<As>> && ...),
                "tessera: factors of a Kronecker product must have the same Scalar");
  static constexpr bool is_view = (tessera::is_view<As> && ...);
  static constexpr Property properties = [] {
    Property common = Property::identity;
    ((common = common & properties_of<As>), ...);
    return common;
  }();

  /// Throws shape_error where the products of the sizes do not fit.
  explicit Kronecker(As... factors) : factors_(std::move(factors)...) { this->check_sizes(); }
  explicit Kronecker(std::tuple<As...> factors) : factors_(std::move(factors)) { this->check_sizes(); }

  const std::tuple<As...>& factor_tuple() const { return factors_; }
  template <std::size_t I>
  const auto& factor() const {
    return std::get<I>(factors_);
  }
  /// A factor, to change its values; its shape must stay.
  template <std::size_t I>
  auto& factor() {
    return std::get<I>(factors_);
  }
  template <class F>
  void for_each_factor(F&& f) const {
    std::apply([&](const As&... a) { (f(a), ...); }, factors_);
  }

  /// X = (A_0⁻¹ ⊗ …) B; factors that are dense are factorised here. Every factor must be square.
  void solve(Context& ctx, Op op, MatrixView<const Scalar> B, MatrixView<Scalar> X) const
      requires(detail::Invertible<As>&&...) {
    detail::check_solve(*this, B, X);
    inverted(*this).apply(ctx, op, Scalar(1), B, Scalar(0), X);
  }

 private:
  std::tuple<As...> factors_;
};

/// The same of factors of one type, as many as there are at run time. AnyOperator makes them different. Without factors
/// it is 1 (1,1).
template <LinearOperator A>
class KroneckerOf : public detail::KroneckerBase<KroneckerOf<A>, scalar_of<A>> {
 public:
  using Scalar = scalar_of<A>;
  static constexpr bool is_view = tessera::is_view<A>;
  static constexpr Property properties = properties_of<A> & Property::identity;

  /// As Kronecker's.
  explicit KroneckerOf(std::vector<A> factors) : factors_(std::move(factors)) { this->check_sizes(); }
  const std::vector<A>& factor_list() const { return factors_; }
  /// A factor, to change its values; its shape must stay.
  A& factor(Index i) { return factors_[static_cast<std::size_t>(i)]; }
  template <class F>
  void for_each_factor(F&& f) const {
    for (const A& a : factors_) f(a);
  }
  /// As Kronecker's.
  void solve(Context& ctx, Op op, MatrixView<const Scalar> B,
             MatrixView<Scalar> X) const requires detail::Invertible<A> {
    detail::check_solve(*this, B, X);
    inverted(*this).apply(ctx, op, Scalar(1), B, Scalar(0), X);
  }

 private:
  std::vector<A> factors_;
};

/// A ⊗ B ⊗ … of Eigen objects, views or operators. Lvalues are referred to, not copied; temporaries and moved operators
/// are taken in.
template <class... As>
requires(sizeof...(As) >= 1 && (... && (LinearOperator<As> || EigenDense<As>))) auto kronecker(As&&... factors) {
  return Kronecker<decltype(detail::hold_factor(std::forward<As>(factors)))...>(
      detail::hold_factor(std::forward<As>(factors))...);
}
/// Takes the factors in.
template <LinearOperator A>
KroneckerOf<A> kronecker(std::vector<A> factors) {
  return KroneckerOf<A>(std::move(factors));
}

/// (A⊗B)ᵀ = Aᵀ ⊗ Bᵀ, where that copies nothing; else evaluation transposes.
template <class... As>
requires(is_view<As>&&...) auto transposed(const Kronecker<As...>& A) {
  return std::apply(
      [](const As&... a) { return Kronecker<decltype(detail::transpose_held(a))...>(detail::transpose_held(a)...); },
      A.factor_tuple());
}

/// (A⊗B)⁻¹ = A⁻¹ ⊗ B⁻¹ of square factors; the inverse owns what it needs. Throws shape_error.
template <class... As>
requires(detail::Invertible<As>&&...) auto inverted(const Kronecker<As...>& A) {
  return std::apply(
      [](const As&... a) { return Kronecker<decltype(detail::invert_held(a))...>(detail::invert_held(a)...); },
      A.factor_tuple());
}
template <detail::Invertible F>
auto inverted(const KroneckerOf<F>& A) {
  std::vector<decltype(detail::invert_held(std::declval<F>()))> all;
  for (const F& a : A.factor_list()) all.push_back(detail::invert_held(a));
  return kronecker(std::move(all));
}

/// (A⊗B)⁺ = A⁺ ⊗ B⁺, for factors of any shape and rank.
template <class... As>
auto pseudo_inverted(const Kronecker<As...>& A) {
  return std::apply([](const As&... a) { return Kronecker<decltype(pinv(As(a)))...>(pinv(As(a))...); },
                    A.factor_tuple());
}
template <class F>
auto pseudo_inverted(const KroneckerOf<F>& A) {
  std::vector<decltype(pinv(std::declval<F>()))> all;
  for (const F& a : A.factor_list()) all.push_back(pinv(F(a)));
  return kronecker(std::move(all));
}
/// √(A⊗B) = √A ⊗ √B of semidefinite factors.
template <SemidefiniteOperator... As>
auto square_root(const Kronecker<As...>& A) {
  return std::apply([](const As&... a) { return Kronecker<decltype(sqrt(As(a)))...>(sqrt(As(a))...); },
                    A.factor_tuple());
}

namespace detail {

/// The product of two factors: of dense ones computed here, else an expression of copies.
template <class A, class C>
auto merge_factors(const A& a, const C& c) {
  using S = scalar_of<A>;
  if constexpr (DenseStorage<A> && DenseStorage<C>) {
    Dense<S> product(a.rows(), c.cols());
    gemm(default_context(), S(1), a.view(), c.view(), S(0), product.view());
    return product;
  } else {
    return checked_product(a, c);
  }
}

/// Two Kronecker products whose factors fit as pairs, merged; else one after the other. Which it is shows at run time.
template <class L, class R, class Merged>
class KroneckerPair : public OperatorBase<KroneckerPair<L, R, Merged>> {
 public:
  using Scalar = scalar_of<L>;
  explicit KroneckerPair(Merged merged) : parts_(std::move(merged)) {}
  KroneckerPair(L left, R right) : parts_(std::pair<L, R>(std::move(left), std::move(right))) {}

  /// AC ⊗ BD, or nullptr where the factors' sizes do not fit.
  const Merged* merged() const { return std::get_if<Merged>(&parts_); }
  Index rows() const { return merged() ? merged()->rows() : pair().first.rows(); }
  Index cols() const { return merged() ? merged()->cols() : pair().second.cols(); }
  void apply(Context& ctx, Op op, Scalar alpha, MatrixView<const Scalar> X, Scalar beta, MatrixView<Scalar> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    if (merged()) return merged()->apply(ctx, op, alpha, X, beta, Y);
    Workspace::Scope scope(ctx.workspace);
    const auto T = scratch_like(scope, Y, pair().second.rows(), X.cols());
    if (op == Op::none) {
      pair().second.apply(ctx, op, Scalar(1), X, Scalar(0), T);
      pair().first.apply(ctx, op, alpha, T, beta, Y);
    } else {
      pair().first.apply(ctx, op, Scalar(1), X, Scalar(0), T);
      pair().second.apply(ctx, op, alpha, T, beta, Y);
    }
  }
  /// Those of AC and BD where they are merged, else of the first product's factors and then the second's.
  Index parameter_count() const requires(Trainable<Merged>&& Trainable<L>&& Trainable<R>) {
    return merged() ? merged()->parameter_count() : pair().first.parameter_count() + pair().second.parameter_count();
  }
  void grad(Context& ctx, MatrixView<const Scalar> X, MatrixView<const Scalar> dY, Scalar beta,
            std::span<Scalar> dparams) const requires(Trainable<Merged>&& Trainable<L>&& Trainable<R>) {
    check_grad(*this, X, dY, dparams);
    if (merged()) return merged()->grad(ctx, X, dY, beta, dparams);
    const auto& [first, second] = pair();
    Workspace::Scope scope(ctx.workspace);
    const MatrixView<Scalar> Z(scope.take<Scalar>(first.cols() * X.cols()), first.cols(), X.cols());
    second.apply(ctx, Op::none, Scalar(1), X, Scalar(0), Z);
    grad_next<L, Scalar>(first, ctx, Z, dY, beta, dparams);
    first.apply(ctx, Op::transpose, Scalar(1), dY, Scalar(0), Z);
    grad_next<R, Scalar>(second, ctx, X, Z, beta, dparams);
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    if (merged()) return merged()->for_each_buffer(f);
    pair().first.for_each_buffer(f);
    pair().second.for_each_buffer(f);
  }
  std::size_t bytes() const { return merged() ? merged()->bytes() : pair().first.bytes() + pair().second.bytes(); }
  double flops(Index n) const { return merged() ? merged()->flops(n) : pair().first.flops(n) + pair().second.flops(n); }
  std::string describe() const {
    return merged() ? merged()->describe()
                    : concat("product of Kroneckers ", shape_text(rows(), cols()), " over ", pair().first.cols());
  }

 private:
  const std::pair<L, R>& pair() const { return std::get<1>(parts_); }
  std::variant<Merged, std::pair<L, R>> parts_;
};

}  // namespace detail

/// (A⊗B)(C⊗D) = AC ⊗ BD. Factors whose sizes do not fit in pairs stay two products.
template <class... As, class... Cs>
requires(sizeof...(As) == sizeof...(Cs) &&
         (... && std::same_as<scalar_of<As>, scalar_of<Cs>>)) auto multiply(const Kronecker<As...>& A,
                                                                            const Kronecker<Cs...>& C) {
  using Merged = Kronecker<decltype(detail::merge_factors(std::declval<const As&>(), std::declval<const Cs&>()))...>;
  using Pair = detail::KroneckerPair<Kronecker<As...>, Kronecker<Cs...>, Merged>;
  return [&]<std::size_t... I>(std::index_sequence<I...>) {
    if ((... && (A.template factor<I>().cols() == C.template factor<I>().rows())))
      return Pair(Merged(detail::merge_factors(A.template factor<I>(), C.template factor<I>())...));
    return Pair(A, C);
  }
  (std::index_sequence_for<As...>());
}

}  // namespace tessera::inline TESSERA_ABI
