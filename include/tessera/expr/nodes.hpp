/// The four expression templates. They are built by the rules (rules.hpp), so that a Product has no Scaled or Product
/// directly inside, a Sum no Sum, and Transposed stands only before an operator. A node without Eigen operands is a
/// LinearOperator itself.
#pragma once

#include <array>
#include <concepts>
#include <span>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include <tessera/expr/node_support.hpp>

namespace tessera::inline TESSERA_ABI {

/// factor * A
template <class A>
class Scaled : public detail::NodeBase<Scaled<A>, is_dense_valued<A>> {
 public:
  using Scalar = scalar_of<A>;
  static constexpr bool is_view = tessera::is_view<A>;
  static constexpr int RowsAtCompileTime = Eigen::Dynamic, ColsAtCompileTime = Eigen::Dynamic;
  static constexpr int SizeAtCompileTime = Eigen::Dynamic;

  Scaled(Scalar factor, A inner) : factor_(factor), inner_(std::move(inner)) {}
  Scalar factor() const { return factor_; }
  const A& inner() const& { return inner_; }
  A&& inner() && { return std::move(inner_); }

  Index rows() const { return inner_.rows(); }
  Index cols() const { return inner_.cols(); }
  void apply(Context& ctx, Op op, Scalar alpha, MatrixView<const Scalar> X, Scalar beta, MatrixView<Scalar> Y) const
      requires(!is_dense_valued<A>) {
    inner_.apply(ctx, op, alpha == Scalar(0) ? alpha : alpha * factor_, X, beta, Y);
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    inner_.for_each_buffer(f);
  }
  std::string describe() const { return detail::concat(detail::number_text(factor_), " * ", detail::text_of(inner_)); }
  double flops(Index n) const requires(!is_dense_valued<A>) { return tessera::flops(inner_, n); }
  bool knows(Form form) const requires(!is_dense_valued<A>) { return tessera::knows(inner_, form); }

  auto diagonal() const requires requires(const A& a) { a.diagonal(); }
  { return (factor_ * inner_.diagonal()).eval(); }
  Index parameter_count() const requires Trainable<A> { return inner_.parameter_count(); }
  /// The parameters of A.
  void grad(Context& ctx, MatrixView<const Scalar> X, MatrixView<const Scalar> dY, Scalar beta,
            std::span<Scalar> dparams) const requires Trainable<A> {
    detail::scaled_grad(inner_, ctx, factor_, X, dY, beta, dparams);
  }

 private:
  Scalar factor_;
  A inner_;
};

/// Aᵀ
template <class A>
class Transposed : public detail::NodeBase<Transposed<A>, is_dense_valued<A>> {
 public:
  using Scalar = scalar_of<A>;
  static constexpr bool is_view = tessera::is_view<A>;
  static constexpr int RowsAtCompileTime = Eigen::Dynamic, ColsAtCompileTime = Eigen::Dynamic;
  static constexpr int SizeAtCompileTime = Eigen::Dynamic;

  explicit Transposed(A inner) : inner_(std::move(inner)) {}
  const A& inner() const& { return inner_; }
  A&& inner() && { return std::move(inner_); }

  Index rows() const { return inner_.cols(); }
  Index cols() const { return inner_.rows(); }
  void apply(Context& ctx, Op op, Scalar alpha, MatrixView<const Scalar> X, Scalar beta, MatrixView<Scalar> Y) const
      requires(!is_dense_valued<A>) {
    inner_.apply(ctx, flip(op), alpha, X, beta, Y);
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    inner_.for_each_buffer(f);
  }
  std::string describe() const { return detail::concat("(", detail::text_of(inner_), ")^T"); }
  double flops(Index n) const requires(!is_dense_valued<A>) { return tessera::flops(inner_, n); }
  bool knows(Form form) const requires(!is_dense_valued<A>) { return tessera::knows(inner_, form); }

  auto diagonal() const requires requires(const A& a) { a.diagonal(); }
  { return inner_.diagonal(); }
  Index parameter_count() const requires Trainable<A> { return inner_.parameter_count(); }
  /// The parameters of A: <dY, Aᵀ X> = <X, A dY>.
  void grad(Context& ctx, MatrixView<const Scalar> X, MatrixView<const Scalar> dY, Scalar beta,
            std::span<Scalar> dparams) const requires Trainable<A> {
    inner_.grad(ctx, dY, X, beta, dparams);
  }

 private:
  A inner_;
};

namespace detail {
/// Texts of parts with a sign between, the later ones left out where they grow long: one operator may stand in a tree
/// a million times.
struct JoinedText {
  static constexpr std::size_t longest = 1000;
  const char* between;
  std::string all{};
  bool cut = false;

  template <class F>
  void add(F&& part) {
    if (cut) return;
    if (!all.empty()) all += between;
    cut = all.size() > longest;
    all += cut ? "..." : part();
  }
};
}  // namespace detail

/// A + B + …
template <class... As>
class Sum : public detail::NodeBase<Sum<As...>, is_dense_valued<Sum<As...>>> {
  static_assert((is_dense_valued<As> && ...) || !(is_dense_valued<As> || ...),
                "tessera: an operator and a dense value cannot be added: multiply the operator by something, or use "
                "to_dense()");

 public:
  using Scalar = scalar_of<std::tuple_element_t<0, std::tuple<As...>>>;
  static constexpr bool is_view = (tessera::is_view<As> && ...);
  static constexpr int RowsAtCompileTime = Eigen::Dynamic, ColsAtCompileTime = Eigen::Dynamic;
  static constexpr int SizeAtCompileTime = Eigen::Dynamic;

  explicit Sum(std::tuple<As...> terms) : terms_(std::move(terms)) {}
  const std::tuple<As...>& terms() const& { return terms_; }
  std::tuple<As...>&& terms() && { return std::move(terms_); }

  Index rows() const { return std::get<0>(terms_).rows(); }
  Index cols() const { return std::get<0>(terms_).cols(); }
  void apply(Context& ctx, Op op, Scalar alpha, MatrixView<const Scalar> X, Scalar beta, MatrixView<Scalar> Y) const
      requires(!is_dense_valued<Sum>) {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    std::apply([&](const As&... term) { ((term.apply(ctx, op, alpha, X, beta, Y), beta = Scalar(1)), ...); }, terms_);
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    std::apply([&](const As&... term) { (term.for_each_buffer(f), ...); }, terms_);
  }
  std::string describe() const {
    detail::JoinedText text{" + "};
    std::apply([&](const As&... term) { (text.add([&] { return detail::text_of(term); }), ...); }, terms_);
    return text.all;
  }
  double flops(Index n) const requires(!is_dense_valued<Sum>) {
    return std::apply([&](const As&... term) { return (tessera::flops(term, n) + ...); }, terms_);
  }
  bool knows(Form form) const requires(!is_dense_valued<Sum>) {
    return std::apply([&](const As&... term) { return (tessera::knows(term, form) && ...); }, terms_);
  }

  auto diagonal() const requires(detail::has_diagonal<As>&&...) {
    return std::apply([](const As&... term) { return (term.diagonal() + ...).eval(); }, terms_);
  }

  /// Terms without parameters count none.
  Index parameter_count() const requires(Trainable<As> || ...) {
    return std::apply([](const As&... term) { return (detail::parameters_of(term) + ...); }, terms_);
  }
  /// The parameters of the terms, one after another.
  void grad(Context& ctx, MatrixView<const Scalar> X, MatrixView<const Scalar> dY, Scalar beta,
            std::span<Scalar> dparams) const requires(Trainable<As> || ...) {
    detail::check_grad(*this, X, dY, dparams);
    std::apply([&](const As&... term) { (detail::grad_next(term, ctx, X, dY, beta, dparams), ...); }, terms_);
  }

 private:
  std::tuple<As...> terms_;
};

/// A * B * …
template <class... As>
class Product : public detail::NodeBase<Product<As...>, is_dense_valued<Product<As...>>> {
  using First = std::tuple_element_t<0, std::tuple<As...>>;
  using Last = std::tuple_element_t<sizeof...(As) - 1, std::tuple<As...>>;

 public:
  using Scalar = scalar_of<First>;
  static constexpr bool is_view = (tessera::is_view<As> && ...);
  static constexpr int RowsAtCompileTime = detail::static_rows<First>;
  static constexpr int ColsAtCompileTime = detail::static_cols<Last>;
  static constexpr int SizeAtCompileTime = Eigen::Dynamic;

  explicit Product(std::tuple<As...> factors) : factors_(std::move(factors)) {}
  const std::tuple<As...>& factors() const& { return factors_; }
  std::tuple<As...>&& factors() && { return std::move(factors_); }

  Index rows() const { return std::get<0>(factors_).rows(); }
  Index cols() const { return std::get<sizeof...(As) - 1>(factors_).cols(); }
  void apply(Context& ctx, Op op, Scalar alpha, MatrixView<const Scalar> X, Scalar beta, MatrixView<Scalar> Y) const
      requires(!is_dense_valued<Product>) {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    apply_product(ctx, *this, op, alpha, X, beta, Y);
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    std::apply([&](const As&... factor) { (factor.for_each_buffer(f), ...); }, factors_);
  }
  std::string describe() const {
    detail::JoinedText text{" * "};
    const auto add = [&]<class A>(const A& factor) {
      text.add([&] {
        return detail::is_sum<A> ? detail::concat('(', detail::text_of(factor), ')') : detail::text_of(factor);
      });
    };
    std::apply([&](const As&... factor) { (add(factor), ...); }, factors_);
    return text.all;
  }
  double flops(Index n) const requires(!is_dense_valued<Product>) {
    return std::apply([&](const As&... factor) { return (tessera::flops(factor, n) + ...); }, factors_);
  }
  bool knows(Form form) const requires(!is_dense_valued<Product>) {
    return std::apply([&](const As&... factor) { return (tessera::knows(factor, form) && ...); }, factors_);
  }

  /// Factors without parameters count none.
  Index parameter_count() const requires(!is_dense_valued<Product> && (Trainable<As> || ...)) {
    return std::apply([](const As&... factor) { return (detail::parameters_of(factor) + ...); }, factors_);
  }
  /// The parameters of the factors, as the rules left them, one after another: <dY, A B X> is A's of <dY, A (B X)> and
  /// B's of <Aᵀ dY, B X>.
  void grad(Context& ctx, MatrixView<const Scalar> X, MatrixView<const Scalar> dY, Scalar beta,
            std::span<Scalar> dparams) const requires(!is_dense_valued<Product> && (Trainable<As> || ...)) {
    detail::check_grad(*this, X, dY, dparams);
    Workspace::Scope scope(ctx.workspace);
    const auto applied = [&](const auto& factor, Op op, MatrixView<const Scalar> to) {
      const Index rows = op == Op::none ? factor.rows() : factor.cols();
      const MatrixView<Scalar> result(scope.take<Scalar>(rows * to.cols()), rows, to.cols());
      factor.apply(ctx, op, Scalar(1), to, Scalar(0), result);
      return MatrixView<const Scalar>(result);
    };
    constexpr std::size_t count = sizeof...(As);
    std::array<MatrixView<const Scalar>, count> input;  // of each factor
    input[count - 1] = X;
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      ((input[count - 2 - I] = applied(std::get<count - 1 - I>(factors_), Op::none, input[count - 1 - I])), ...);
      const auto pull = [&](const auto& factor, std::size_t i) {
        detail::grad_next(factor, ctx, input[i], dY, beta, dparams);
        if (i + 1 < count) dY = applied(factor, Op::transpose, dY);
      };
      (pull(std::get<I>(factors_), I), ...);
      pull(std::get<count - 1>(factors_), count - 1);
    }
    (std::make_index_sequence<count - 1>());
  }

 private:
  std::tuple<As...> factors_;
};

}  // namespace tessera::inline TESSERA_ABI
