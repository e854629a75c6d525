/// How an expression holds its operands: lvalues by pointer, rvalues by value, views as copies (the rule of
/// std::views::all), so that no temporary dangles under `auto`.
#pragma once

#include <Eigen/Core>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include <tessera/expr/eigen_view.hpp>
#include <tessera/expr/operator.hpp>

namespace tessera::inline TESSERA_ABI {

template <class A>
class Ref;
template <class H>
class EigenLeaf;
template <class A>
class Scaled;
template <class A>
class Transposed;
template <class... As>
class Sum;
template <class... As>
class Product;

/// One of the expression templates of this library.
template <class T>
inline constexpr bool is_node = false;
template <class A>
inline constexpr bool is_node<Ref<A>> = true;
template <class H>
inline constexpr bool is_node<EigenLeaf<H>> = true;
template <class A>
inline constexpr bool is_node<Scaled<A>> = true;
template <class A>
inline constexpr bool is_node<Transposed<A>> = true;
template <class... As>
inline constexpr bool is_node<Sum<As...>> = true;
template <class... As>
inline constexpr bool is_node<Product<As...>> = true;

/// Its value is a dense matrix, because an Eigen object is multiplied in; without one it is an operator.
template <class T>
inline constexpr bool is_dense_valued = false;
template <class H>
inline constexpr bool is_dense_valued<EigenLeaf<H>> = true;
template <class A>
inline constexpr bool is_dense_valued<Ref<A>> = is_dense_valued<A>;
template <class A>
inline constexpr bool is_dense_valued<Scaled<A>> = is_dense_valued<A>;
template <class A>
inline constexpr bool is_dense_valued<Transposed<A>> = is_dense_valued<A>;
template <class... As>
inline constexpr bool is_dense_valued<Sum<As...>> = (is_dense_valued<As> || ...);
template <class... As>
inline constexpr bool is_dense_valued<Product<As...>> = (is_dense_valued<As> || ...);

/// An expression Eigen objects can be assigned from.
template <class T>
concept DenseExpression = is_dense_valued<std::remove_cvref_t<T>>;

/// What `*` and `+` of this library take on at least one side.
template <class T>
concept Expression = DenseExpression<T> || LinearOperator<T>;

/// Copies are cheap and refer to the same data, so an expression copies it: views, and nodes made of views.
template <class T>
inline constexpr bool is_view = [] {
  if constexpr (requires { T::is_view; })
    return bool(T::is_view);
  else
    return false;
}();

template <class T>
using scalar_of = typename std::remove_cvref_t<T>::Scalar;

namespace detail {

/// "Dense 4x4", for operators and dense-valued nodes alike.
template <class T>
std::string text_of(const T& t) {
  if constexpr (LinearOperator<T>)
    return tessera::describe(t);
  else
    return t.describe();
}

/// The base of a node: an operator's members, or those Eigen assigns from.
template <class Node, bool Dense>
class NodeBase : public OperatorBase<Node> {};

template <class Node>
class NodeBase<Node, true> : public Eigen::EigenBase<Node> {
 public:
  template <class D>
  void evalTo(D& destination) const {
    assign_expression(default_context(), node(), 0, 1, destination, true);
  }
  template <class D>
  void addTo(D& destination) const {
    assign_expression(default_context(), node(), 1, 1, destination, true);
  }
  template <class D>
  void subTo(D& destination) const {
    assign_expression(default_context(), node(), 1, -1, destination, true);
  }
  /// The value as a matrix of its own: `y = (A * y).eval()` when that changes y's shape.
  auto eval() const {
    return Eigen::Matrix<typename Node::Scalar, Node::RowsAtCompileTime, Node::ColsAtCompileTime>(node());
  }
  auto to_dense() const { return Eigen::MatrixX<typename Node::Scalar>(node()); }
  auto transpose() const& { return transpose_of(node()); }
  auto transpose() && { return transpose_of(static_cast<Node&&>(*this)); }

 private:
  const Node& node() const { return static_cast<const Node&>(*this); }
};

}  // namespace detail

/// An operator that is an lvalue elsewhere, or an expression that owns some of its operands.
template <class A>
class Ref : public detail::NodeBase<Ref<A>, is_dense_valued<A>> {
 public:
  using Scalar = scalar_of<A>;
  static constexpr bool is_view = true;
  static constexpr int RowsAtCompileTime = Eigen::Dynamic, ColsAtCompileTime = Eigen::Dynamic;
  static constexpr int SizeAtCompileTime = Eigen::Dynamic;

  explicit Ref(const A& a) : a_(&a) {}
  const A& get() const { return *a_; }

  Index rows() const { return a_->rows(); }
  Index cols() const { return a_->cols(); }
  void apply(Context& ctx, Op op, Scalar alpha, MatrixView<const Scalar> X, Scalar beta, MatrixView<Scalar> Y) const
      requires(!is_dense_valued<A>) {
    a_->apply(ctx, op, alpha, X, beta, Y);
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    a_->for_each_buffer(f);
  }
  std::string describe() const { return detail::text_of(*a_); }
  double flops(Index n) const requires(!is_dense_valued<A>) { return tessera::flops(*a_, n); }
  std::size_t bytes() const requires(!is_dense_valued<A>) { return tessera::bytes(*a_); }
  bool knows(Form form) const requires(!is_dense_valued<A>) { return tessera::knows(*a_, form); }
  auto diagonal() const requires requires(const A& a) { a.diagonal(); }
  { return a_->diagonal(); }
  void solve(Context& ctx, Op op, MatrixView<const Scalar> B, MatrixView<Scalar> X) const requires Solvable<A> {
    a_->solve(ctx, op, B, X);
  }
  Index parameter_count() const requires Trainable<A> { return a_->parameter_count(); }
  void grad(Context& ctx, MatrixView<const Scalar> X, MatrixView<const Scalar> dY, Scalar beta,
            std::span<Scalar> dparams) const requires Trainable<A> {
    a_->grad(ctx, X, dY, beta, dparams);
  }

 private:
  const A* a_;
};

namespace detail {

/// False when the matrix that a block or a reshaped view was taken of has been resized, moved or swapped since: its
/// memory may be gone. Objects that are neither, nor made of them, are trusted.
template <class E>
bool still_there([[maybe_unused]] const E& object) {
  if constexpr (!EigenPlain<E> && requires { object.nestedExpression(); }) {
    const auto& inner = object.nestedExpression();
    using Inner = std::remove_cvref_t<decltype(inner)>;
    if constexpr (EigenPlain<Inner> && requires { object.startRow(); })
      return object.startRow() + object.rows() <= inner.rows() && object.startCol() + object.cols() <= inner.cols() &&
             object.rowStride() == inner.rowStride() && object.colStride() == inner.colStride() &&
             object.data() ==
                 inner.data() + object.startRow() * inner.rowStride() + object.startCol() * inner.colStride();
    else if constexpr (EigenPlain<Inner> && std::is_base_of_v<Eigen::MapBase<E, Eigen::ReadOnlyAccessors>, E>)
      return object.data() == inner.data() && object.size() == inner.size();
    else
      return still_there(inner);
  } else {
    return true;
  }
}

}  // namespace detail

/// A dense Eigen operand. H is `const E*` for an lvalue that owns its elements, else E itself.
template <class H>
class EigenLeaf : public detail::NodeBase<EigenLeaf<H>, true> {
  static constexpr bool by_pointer = std::is_pointer_v<H>;
  using Object = std::remove_const_t<std::remove_pointer_t<H>>;

 public:
  using Scalar = typename Object::Scalar;
  static constexpr bool is_view = by_pointer || !EigenPlain<Object>;
  static constexpr int RowsAtCompileTime = Object::RowsAtCompileTime;
  static constexpr int ColsAtCompileTime = Object::ColsAtCompileTime;
  static constexpr int SizeAtCompileTime = Object::SizeAtCompileTime;

  explicit EigenLeaf(H held) : held_(std::move(held)), rows_(object().rows()), cols_(object().cols()) {}

  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  /// Throws shape_error if the object has another shape than when the expression was built.
  MatrixView<const Scalar> view() const {
    if (object().rows() != rows_ || object().cols() != cols_)
      throw shape_error(detail::concat("tessera: an Eigen operand was ", detail::shape_text(rows_, cols_),
                                       " when the expression was built and is ",
                                       detail::shape_text(object().rows(), object().cols()),
                                       " now; where y = A * y changes y's shape, write y = (A * y).eval()"));
    if (!detail::still_there(object()))
      throw shape_error(detail::concat("tessera: an Eigen operand, a block of ", detail::shape_text(rows_, cols_),
                                       ", lost its matrix, which was resized or moved since the expression was built; "
                                       "where y = A * y.head(n) changes y's shape, write y = (A * y.head(n)).eval()"));
    return tessera::view(object());
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    f(byte_range(view()));
  }
  std::string describe() const { return detail::concat("Eigen ", detail::shape_text(rows_, cols_)); }

 private:
  const Object& object() const {
    if constexpr (by_pointer)
      return *held_;
    else
      return held_;
  }
  H held_;
  Index rows_, cols_;
};

namespace detail {

/// `operand` as an expression holds it. Eigen expressions without direct access are evaluated here.
template <class T>
auto hold(T&& operand) {
  using D = std::remove_cvref_t<T>;
  if constexpr (EigenDense<T>) {
    if constexpr (!EigenDirect<T>)
      return EigenLeaf<typename D::PlainObject>(operand);
    else if constexpr (EigenPlain<T> && std::is_lvalue_reference_v<T>)
      return EigenLeaf<const D*>(&operand);
    else
      return EigenLeaf<D>(std::forward<T>(operand));
  } else if constexpr (!std::is_lvalue_reference_v<T> || is_view<D>) {
    return D(std::forward<T>(operand));
  } else {
    return Ref<D>(operand);
  }
}

/// The operator behind a Ref.
template <class T>
const T& unwrap(const T& t) {
  return t;
}
template <class A>
const A& unwrap(const Ref<A>& ref) {
  return ref.get();
}

}  // namespace detail
}  // namespace tessera::inline TESSERA_ABI

namespace Eigen::internal {

struct TesseraShape {};

template <class T>
requires tessera::is_node<T>
struct traits<T> {
  using StorageKind = Dense;
  using XprKind = MatrixXpr;
  using StorageIndex = Eigen::Index;
  static constexpr int RowsAtCompileTime = Dynamic, ColsAtCompileTime = Dynamic;
};
template <class T>
requires tessera::is_node<T>
struct evaluator_traits<T> {
  using Kind = IndexBased;
  using Shape = TesseraShape;  // assigned by the rule below
};

struct TesseraToDense {};
template <>
struct AssignmentKind<DenseShape, TesseraShape> {
  using Kind = TesseraToDense;
};
/// As Eigen's own for EigenBase objects, but += and -= never resize, and shapes that do not fit throw.
template <class D, class E, class F, class Weak>
struct Assignment<D, E, F, TesseraToDense, Weak> {
  using S = typename E::Scalar;
  static void run(D& to, const E& from, const assign_op<typename D::Scalar, S>&) {
    if constexpr (tessera::EigenPlain<D>)
      if (to.rows() != from.rows() || to.cols() != from.cols()) to.resize(from.rows(), from.cols());
    from.evalTo(to);
  }
  static void run(D& to, const E& from, const add_assign_op<typename D::Scalar, S>&) { from.addTo(to); }
  static void run(D& to, const E& from, const sub_assign_op<typename D::Scalar, S>&) { from.subTo(to); }
};

}  // namespace Eigen::internal
