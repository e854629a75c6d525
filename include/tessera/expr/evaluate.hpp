/// From expressions to numbers: `Y = expr`, `evaluate(ctx, expr, Y)`, `noalias(Y) = expr`, `to_dense(A)`.
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>

#include <tessera/expr/chain.hpp>
#include <tessera/expr/rules.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

/// Has a dense view of its own Scalar.
template <class A>
concept DenseStorage = requires(const A& a) {
  { a.view() } -> std::same_as<MatrixView<const scalar_of<A>>>;
};

/// Every term has a dense factor.
template <class A>
inline constexpr bool has_dense_factor = is_dense_valued<A> || DenseStorage<A>;
template <class A>
inline constexpr bool has_dense_factor<Ref<A>> = has_dense_factor<A>;
template <class A>
inline constexpr bool has_dense_factor<Scaled<A>> = has_dense_factor<A>;
template <class A>
inline constexpr bool has_dense_factor<Transposed<A>> = has_dense_factor<A>;
template <class... As>
inline constexpr bool has_dense_factor<Sum<As...>> = (has_dense_factor<As> && ...);
template <class... As>
inline constexpr bool has_dense_factor<Product<As...>> = (has_dense_factor<As> || ...);

template <class Node, class S>
void evaluate_node(Context& ctx, const Node& node, Op op, S alpha, S beta, MatrixView<S> Y);
/// Specialised by explain.hpp, so that evaluation alone does not pay for text.
template <class A>
struct FactorTextOf;

/// At most how many factors a term has, an operand behind a Ref included.
template <class T>
inline constexpr std::size_t factor_count = 1;
template <class A>
inline constexpr std::size_t factor_count<Ref<A>> = factor_count<A>;
template <class A>
inline constexpr std::size_t factor_count<Scaled<A>> = factor_count<A>;
template <class A>
inline constexpr std::size_t factor_count<Transposed<A>> = factor_count<A>;
template <class... As>
inline constexpr std::size_t factor_count<Product<As...>> = (factor_count<As> + ...);

template <bool Explaining, class A>
Factor<scalar_of<A>> make_factor(const A& a, Op op) {
  using S = scalar_of<A>;
  Factor<S> f;
  f.op = op;
  f.rows = op == Op::none ? a.rows() : a.cols();
  f.cols = op == Op::none ? a.cols() : a.rows();
  f.object = &a;
  if constexpr (Explaining) f.text = &FactorTextOf<A>::value;
  if constexpr (DenseStorage<A>) {
    f.kind = Factor<S>::dense;
    f.view = op == Op::none ? a.view() : a.view().transposed();
  } else if constexpr (is_dense_valued<A>) {
    f.kind = Factor<S>::deferred;
    f.evaluate = [](const void* p, Context& ctx, Op o, S alpha, S beta, MatrixView<S> Y) {
      evaluate_node(ctx, *static_cast<const A*>(p), o, alpha, beta, Y);
    };
  } else {
    f.kind = Factor<S>::linear;
    f.apply = [](const void* p, Context& ctx, Op o, S alpha, MatrixView<const S> X, S beta, MatrixView<S> Y) {
      static_cast<const A*>(p)->apply(ctx, o, alpha, X, beta, Y);
    };
    f.flops = [](const void* p, Index n) { return tessera::flops(*static_cast<const A*>(p), n); };
  }
  return f;
}

/// Writes the factors of op(t) to `out`, which moves past them; what scales them goes into alpha.
template <bool Explaining = false, class T, class S>
void collect_factors(const T& t, Op op, S& alpha, Factor<S>*& out) {
  if constexpr (is_ref<T>) {
    collect_factors<Explaining>(t.get(), op, alpha, out);
  } else if constexpr (is_scaled<T>) {
    alpha *= t.factor();
    collect_factors<Explaining>(t.inner(), op, alpha, out);
  } else if constexpr (is_transposed<T>) {
    collect_factors<Explaining>(t.inner(), flip(op), alpha, out);
  } else if constexpr (is_product<T>) {
    std::apply(
        [&](const auto&... factor) {
          if (op == Op::none) {
            (collect_factors<Explaining>(factor, op, alpha, out), ...);
          } else {
            int dummy = 0;  // the right operand of = is evaluated first: from the last factor to the first
            ((collect_factors<Explaining>(factor, op, alpha, out), dummy) = ... = dummy);
          }
        },
        t.factors());
  } else {
    *out++ = make_factor<Explaining>(t, op);
  }
}

/// `f(term, op, alpha)` for every term of alpha * op(t).
template <class T, class S, class F>
void for_each_term(const T& t, Op op, S alpha, F&& f) {
  if constexpr (is_ref<T>)
    for_each_term(t.get(), op, alpha, f);
  else if constexpr (is_scaled<T>)
    for_each_term(t.inner(), op, alpha * t.factor(), f);
  else if constexpr (is_transposed<T>)
    for_each_term(t.inner(), flip(op), alpha, f);
  else if constexpr (is_sum<T>)
    std::apply([&](const auto&... term) { (for_each_term(term, op, alpha, f), ...); }, t.terms());
  else
    f(t, op, alpha);
}

/// Y = alpha * op(node) + beta * Y for a dense-valued node; Y overlaps nothing that is read.
template <class Node, class S>
void evaluate_node(Context& ctx, const Node& node, Op op, S alpha, S beta, MatrixView<S> Y) {
  for_each_term(node, op, alpha, [&]<class T>(const T& term, Op o, S scale) {
    std::array<Factor<S>, factor_count<T>> factors;
    Factor<S>* end = factors.data();
    collect_factors(term, o, scale, end);
    run_chain<S>(ctx, std::span<const Factor<S>>(factors.data(), end), scale, beta, Y);
    beta = S(1);
  });
}

/// Y = alpha * op(product) * X + beta * Y for a product of operators.
template <class Node, class S>
void apply_product(Context& ctx, const Node& node, Op op, S alpha, MatrixView<const S> X, S beta, MatrixView<S> Y) {
  std::array<Factor<S>, factor_count<Node> + 1> factors;
  Factor<S>* end = factors.data();
  collect_factors(node, op, alpha, end);
  end->rows = X.rows();
  end->cols = X.cols();
  end->view = X;
  run_chain<S>(ctx, std::span<const Factor<S>>(factors.data(), end + 1), alpha, beta, Y);
}

/// Whether evaluating `node` reads memory in the reach of Y.
template <class Node, class S>
bool reads(const Node& node, MatrixView<S> Y) {
  const ByteRange target = byte_range(Y);
  bool found = false;
  node.for_each_buffer([&](ByteRange source) { found = found || source.overlaps(target); });
  return found;
}

template <class Node, class S>
void evaluate_into(Context& ctx, const Node& node, S alpha, S beta, MatrixView<S> Y, bool check_alias) {
  if (Y.rows() != node.rows() || Y.cols() != node.cols())
    throw shape_error(concat("tessera: (", text_of(node), ") is ", shape_text(node.rows(), node.cols()),
                             ", the destination is ", shape_text(Y.rows(), Y.cols())));
  if (Y.empty()) return;
  if (!check_alias || !reads(node, Y)) return evaluate_node(ctx, node, Op::none, alpha, beta, Y);
  Workspace::Scope scope(ctx.workspace);
  const auto T = scratch_like(scope, Y, Y.rows(), Y.cols());
  evaluate_node(ctx, node, Op::none, alpha, S(0), T);
  add_scaled<S>(ctx, S(1), T, beta, Y);
}

/// destination = alpha * node + beta * destination for an Eigen destination.
template <class Node, class D>
void assign_expression(Context& ctx, const Node& node, scalar_of<Node> beta, scalar_of<Node> alpha, D& destination,
                       bool check_alias) {
  using S = scalar_of<Node>;
  static_assert(std::same_as<S, typename D::Scalar>,
                "tessera: the destination must have the expression's Scalar; convert with .cast<T>()");
  if constexpr (EigenDirect<D>) {
    evaluate_into<Node, S>(ctx, node, alpha, beta, tessera::view(destination), check_alias);
  } else {
    Eigen::MatrixX<S> value = destination.matrix();
    evaluate_into<Node, S>(ctx, node, alpha, beta, tessera::view(value), check_alias);
    destination.matrix() = value;
  }
}

/// Resizes what can be resized.
template <class D>
void fit(D& destination, Index rows, Index cols) {
  if constexpr (EigenPlain<D>)
    if (destination.rows() != rows || destination.cols() != cols) destination.resize(rows, cols);
}

}  // namespace detail

/// An expression whose value is computed by applying operators to the dense matrices in it: one with an Eigen object
/// multiplied in, or a sum of products that have a dense matrix each.
template <class E>
concept Evaluable = Expression<E> && detail::has_dense_factor<std::remove_cvref_t<E>>;

/// Y = expr. Y must have its shape. Uses ctx's threads and scratch; buffers only if the expression reads memory within
/// Y's reach. Throws shape_error.
template <Evaluable E>
void evaluate(Context& ctx, const E& expr, std::type_identity_t<MatrixView<scalar_of<E>>> Y) {
  detail::evaluate_into<E, scalar_of<E>>(ctx, expr, 1, 0, Y, true);
}

/// The same into an Eigen object, which is resized if it owns its elements.
template <Evaluable E, EigenDirect D>
void evaluate(Context& ctx, const E& expr, D&& Y) {
  if constexpr (EigenPlain<D>)
    if ((Y.rows() != expr.rows() || Y.cols() != expr.cols()) && detail::reads(expr, view(Y))) {
      Eigen::Matrix<scalar_of<E>, Eigen::Dynamic, Eigen::Dynamic> value(expr.rows(), expr.cols());
      detail::assign_expression(ctx, expr, 0, 1, value, false);
      Y = value;
      return;
    }
  detail::fit(Y, expr.rows(), expr.cols());
  detail::assign_expression(ctx, expr, 0, 1, Y, true);
}

/// A destination that no operand overlaps, on the caller's word: see `noalias`.
template <class D>
class NoAlias {
 public:
  NoAlias(Context& ctx, D destination) : ctx_(ctx), destination_(destination) {}
  template <Evaluable E>
  void operator=(const E& expr) && {
    if constexpr (EigenDense<D>) detail::fit(destination_, expr.rows(), expr.cols());
    run(expr, 0, 1);
  }
  template <Evaluable E>
  void operator+=(const E& expr) && {
    run(expr, 1, 1);
  }
  template <Evaluable E>
  void operator-=(const E& expr) && {
    run(expr, 1, -1);
  }

 private:
  template <class E>
  void run(const E& expr, scalar_of<E> beta, scalar_of<E> alpha) {
    if constexpr (EigenDense<D>)
      detail::assign_expression(ctx_, expr, beta, alpha, destination_, false);
    else
      detail::evaluate_into<E, scalar_of<E>>(ctx_, expr, alpha, beta, destination_, false);
  }
  Context& ctx_;
  D destination_;
};

/// `noalias(y) = expr`, `+=`, `-=` without the alias test. What happens if y is read by expr is undefined.
template <EigenDense D>
auto noalias(Context& ctx, D&& y) {
  return NoAlias<D&>(ctx, y);
}
template <class T>
auto noalias(Context& ctx, MatrixView<T> y) {
  return NoAlias<MatrixView<T>>(ctx, y);
}
template <EigenDense D>
auto noalias(D&& y) {
  return noalias(default_context(), y);
}
template <class T>
auto noalias(MatrixView<T> y) {
  return noalias(default_context(), y);
}

/// A (M,N) as a matrix, by applying it to the identity.
template <LinearOperator A>
Eigen::MatrixX<scalar_of<A>> dense_of(const A& a) {
  using S = scalar_of<A>;
  const Op op = a.cols() <= a.rows() ? Op::none : Op::transpose;
  const Index n = std::min(a.rows(), a.cols());
  const Eigen::MatrixX<S> unit = Eigen::MatrixX<S>::Identity(n, n);
  Eigen::MatrixX<S> value(a.rows(), a.cols());
  a.apply(default_context(), op, S(1), view(unit), S(0), op == Op::none ? view(value) : view(value).transposed());
  return value;
}

/// The only way from an operator to a dense matrix (M,N).
template <Expression A>
Eigen::MatrixX<scalar_of<A>> to_dense(const A& a) {
  if constexpr (requires { a.to_dense(); })
    return a.to_dense();
  else
    return dense_of(a);
}

}  // namespace tessera::inline TESSERA_ABI
