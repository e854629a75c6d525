/// What every operator of the library must satisfy. A type joins by one line in a type list: a struct with
/// `using Operator` and `static std::vector<Operator> samples()`, and a `Truth` if its rounding isn't a dense
/// product's.
#pragma once

#include <gtest/gtest.h>

#include <Eigen/Core>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <support/forwarding.hpp>
#include <support/oracle.hpp>
#include <tessera/matrix/any.hpp>

namespace tessera::test {

/// An operator's value in double, the magnitude its rounding errors scale with, how many roundings a result takes, and
/// what else a result may differ by. Specialise where |A| is not the magnitude: products, sums, quantized activations.
template <class A>
struct Truth {
  using S = scalar_of<A>;
  static Eigen::MatrixXd value(const A& a) { return to_dense(a).template cast<double>(); }
  static Eigen::MatrixXd magnitude(const A& a) { return value(a).cwiseAbs(); }
  static double roundings(const A& a, Op op) { return static_cast<double>(op == Op::none ? a.cols() : a.rows()) + 3; }
  /// Beyond rounding, for one row of op(A) * x.
  static double extra(const A&, Op, Index /*row*/, VectorView<const S>) { return 0; }
};

template <class A>
struct Truth<AnyOperator<A>> {
  using Any = AnyOperator<A>;
  static Eigen::MatrixXd value(const Any& a) { return to_dense(a).template cast<double>(); }
  static Eigen::MatrixXd magnitude(const Any& a) { return value(a).cwiseAbs(); }
  static double roundings(const Any& a, Op) { return 2.0 * static_cast<double>(a.rows() + a.cols()) + 8; }
  static double extra(const Any&, Op, Index, VectorView<const A>) { return 0; }
};

/// Of expressions: from the truths of their operands.
template <class A>
struct Truth<Scaled<A>> {
  using S = Scaled<A>;
  static Eigen::MatrixXd value(const S& s) { return static_cast<double>(s.factor()) * Truth<A>::value(s.inner()); }
  static Eigen::MatrixXd magnitude(const S& s) {
    return std::abs(static_cast<double>(s.factor())) * Truth<A>::magnitude(s.inner());
  }
  static double roundings(const S& s, Op op) { return Truth<A>::roundings(s.inner(), op) + 1; }
  static double extra(const S&, Op, Index, VectorView<const scalar_of<A>>) { return 0; }
};
template <class A>
struct Truth<Transposed<A>> {
  using T = Transposed<A>;
  static Eigen::MatrixXd value(const T& t) { return Truth<A>::value(t.inner()).transpose(); }
  static Eigen::MatrixXd magnitude(const T& t) { return Truth<A>::magnitude(t.inner()).transpose(); }
  static double roundings(const T& t, Op op) { return Truth<A>::roundings(t.inner(), flip(op)); }
  static double extra(const T&, Op, Index, VectorView<const scalar_of<A>>) { return 0; }
};
template <class... As>
struct Truth<Sum<As...>> {
  using T = Sum<As...>;
  static Eigen::MatrixXd value(const T& t) {
    return std::apply([](const As&... a) { return Eigen::MatrixXd((Truth<As>::value(a) + ...)); }, t.terms());
  }
  static Eigen::MatrixXd magnitude(const T& t) {
    return std::apply([](const As&... a) { return Eigen::MatrixXd((Truth<As>::magnitude(a) + ...)); }, t.terms());
  }
  static double roundings(const T& t, Op op) {
    return std::apply([=](const As&... a) { return (Truth<As>::roundings(a, op) + ... + 1.0); }, t.terms());
  }
  static double extra(const T&, Op, Index, VectorView<const scalar_of<T>>) { return 0; }
};
template <class... As>
struct Truth<Product<As...>> {
  using T = Product<As...>;
  static Eigen::MatrixXd value(const T& t) {
    return product(t, []<class A>(const A& a) { return Truth<A>::value(a); });
  }
  static Eigen::MatrixXd magnitude(const T& t) {
    return product(t, []<class A>(const A& a) { return Truth<A>::magnitude(a); });
  }
  static double roundings(const T& t, Op op) {
    return std::apply([=](const As&... a) { return (Truth<As>::roundings(a, op) + ...); }, t.factors());
  }
  static double extra(const T&, Op, Index, VectorView<const scalar_of<T>>) { return 0; }
  template <class F>
  static Eigen::MatrixXd product(const T& t, F&& of) {
    Eigen::MatrixXd all = Eigen::MatrixXd::Identity(t.rows(), t.rows());
    std::apply([&](const As&... a) { (void(all = (all * Eigen::MatrixXd(of(a))).eval()), ...); }, t.factors());
    return all;
  }
};

/// Random (rows, cols) in a layout of choice, with guard elements in the gaps.
template <class S>
class Grid {
 public:
  enum Layout { column_major, row_major, strided_columns, strided_rows, reversed, layouts };
  Grid(Index rows, Index cols, int layout, std::uint64_t seed) {
    Index step_i = 1, step_j = rows, first = 0;
    if (layout == row_major) step_i = cols, step_j = 1;
    if (layout == strided_columns) step_i = 1, step_j = rows + 3, first = 1;
    if (layout == strided_rows) step_i = 2 * cols + 1, step_j = 2;
    if (layout == reversed) step_i = -1, step_j = rows, first = rows > 0 ? rows - 1 : 0;
    cells_ = random_buffer<S>(first + (rows + 1) * std::abs(step_i) + (cols + 1) * std::abs(step_j) + 1, seed);
    view_ = MatrixView<S>(cells_.data() + first, {rows, cols}, {step_i, step_j});
  }
  MatrixView<S> view() { return view_; }
  MatrixView<const S> view() const { return view_; }
  void fill(S value) {
    for (Index i = 0; i < view_.rows(); ++i)
      for (Index j = 0; j < view_.cols(); ++j) view_(i, j) = value;
  }
  /// The elements outside the view are those of `before`.
  bool gaps_equal(const Grid& before) const {
    Buffer<S> mine = cells_;
    const MatrixView<S> v(mine.data() + (view_.data() - cells_.data()), view_.extents(), view_.strides());
    const auto old =
        MatrixView<const S>(before.cells_.data() + (view_.data() - cells_.data()), view_.extents(), view_.strides());
    for (Index i = 0; i < v.rows(); ++i)
      for (Index j = 0; j < v.cols(); ++j) v(i, j) = old(i, j);
    return std::memcmp(mine.data(), before.cells_.data(), mine.bytes()) == 0;
  }
  Grid(const Grid& other) : cells_(other.cells_) {
    view_ = MatrixView<S>(cells_.data() + (other.view_.data() - other.cells_.data()), other.view_.extents(),
                          other.view_.strides());
  }

 private:
  Buffer<S> cells_;
  MatrixView<S> view_;
};

template <class S>
Eigen::MatrixXd in_double(MatrixView<S> X) {
  Eigen::MatrixXd value(X.rows(), X.cols());
  for (Index i = 0; i < X.rows(); ++i)
    for (Index j = 0; j < X.cols(); ++j) value(i, j) = static_cast<double>(X(i, j));
  return value;
}

/// What the laws ask of an A.
template <class A>
struct Lawful : Forwarding<Lawful<A>, A> {
  using Forwarding<Lawful, A>::a;
  using Scalar = scalar_of<A>;
  explicit Lawful(const A& held) : Forwarding<Lawful, A>(held) {}
  std::size_t bytes() const { return tessera::bytes(a); }
  double flops(Index n) const { return tessera::flops(a, n); }
  std::span<Scalar> parameters() requires requires(A& held) { std::span<Scalar>(held.parameters()); }
  { return a.parameters(); }
  Index parameter_count() const requires Trainable<A> { return a.parameter_count(); }
  void grad(Context& ctx, MatrixView<const Scalar> X, MatrixView<const Scalar> dY, Scalar beta,
            std::span<Scalar> dparams) const requires Trainable<A> {
    a.grad(ctx, X, dY, beta, dparams);
  }
};

/// A block of mixed types.
template <class A>
AnyOperator<scalar_of<A>> lawful(const A& a) {
  return Lawful<A>(a);
}

/// An operator under test, its type erased so that the laws compile once a Scalar.
template <class S>
struct Subject {
  AnyOperator<S> a;
  Eigen::MatrixXd value, magnitude, dense;
  Eigen::VectorXd diagonal;  // empty without one
  double roundings[2];       // by Op
  std::function<double(Op, Index, VectorView<const S>)> extra;
  std::function<void(Context&, Op, MatrixView<const S>, MatrixView<S>)> solve;  // empty without one
  bool trainable, has_diagonal, is_expression;

  Index rows(Op op) const { return op == Op::none ? a.rows() : a.cols(); }
  Index cols(Op op) const { return op == Op::none ? a.cols() : a.rows(); }
  Eigen::MatrixXd of(const Eigen::MatrixXd& m, Op op) const {
    return op == Op::none ? m : Eigen::MatrixXd(m.transpose());
  }
};

template <class A>
Subject<scalar_of<A>> make_subject(const A& a) {
  using S = scalar_of<A>;
  using T = Truth<A>;
  Subject<S> s{AnyOperator<S>(Lawful<A>(a)),
               T::value(a),
               T::magnitude(a),
               to_dense(a).template cast<double>(),
               {},
               {},
               {},
               {},
               Trainable<A>,
               false,
               is_node<A>};
  s.roundings[0] = T::roundings(a, Op::none);
  s.roundings[1] = T::roundings(a, Op::transpose);
  s.extra = [a](Op op, Index row, VectorView<const S> x) { return T::extra(a, op, row, x); };
  if constexpr (requires { a.diagonal(); }) {
    s.has_diagonal = true;
    s.diagonal = a.diagonal().template cast<double>();
  }
  if constexpr (Solvable<A>)
    if (knows(a, Form::solve))
      s.solve = [a](Context& ctx, Op op, MatrixView<const S> B, MatrixView<S> X) { a.solve(ctx, op, B, X); };
  return s;
}

/// Y is alpha * op(A) * X + beta * Y0 within the bound of A's truth.
template <class S>
void expect_applied(const Subject<S>& s, Op op, S alpha, MatrixView<const S> X, S beta, const Eigen::MatrixXd& Y0,
                    MatrixView<const S> Y, const std::string& what) {
  const Eigen::MatrixXd x = in_double(X);
  const double scale = std::abs(static_cast<double>(alpha));
  Eigen::MatrixXd expected = static_cast<double>(alpha) * (s.of(s.value, op) * x);
  Eigen::MatrixXd bound = scale * (s.of(s.magnitude, op) * x.cwiseAbs());
  if (beta != S(0)) {
    expected += static_cast<double>(beta) * Y0;
    bound += std::abs(static_cast<double>(beta)) * Y0.cwiseAbs();
  }
  bound *= gamma<S>(s.roundings[static_cast<int>(op)]);
  for (Index i = 0; i < Y.rows(); ++i)
    for (Index j = 0; j < Y.cols(); ++j) {
      const double got = static_cast<double>(Y(i, j));
      const double allowed = bound(i, j) + (scale > 0 ? scale * s.extra(op, i, X.col(j)) : 0.0) +
                             static_cast<double>(std::numeric_limits<S>::denorm_min());
      ASSERT_LE(std::abs(got - expected(i, j)), allowed)
          << what << " at (" << i << ", " << j << "): " << got << ", expected " << expected(i, j);
    }
}

template <class S>
void check_apply_law(const Subject<S>& s) {
  using G = Grid<S>;
  constexpr S nan = std::numeric_limits<S>::quiet_NaN();
  const std::pair<S, S> scales[] = {{S(1), S(0)}, {S(-0.5), S(1)}, {S(2), S(-0.75)}, {S(0), S(0)}, {S(0), S(2)}};
  Context ctx;
  for (const Op op : {Op::none, Op::transpose}) {
    std::size_t turn = 0;
    for (const Index n : {1, 2, 7, 19, 0})
      for (int layout = 0; layout < G::layouts; ++layout) {
        const int y_layout = (layout + static_cast<int>(turn)) % G::layouts;
        const auto [alpha, beta] = scales[(turn + turn / 5) % std::size(scales)];
        ++turn;
        const G X(s.cols(op), n, layout, 1);
        G Y(s.rows(op), n, y_layout, 2);
        const G before = Y;
        if (beta == S(0)) Y.fill(nan);
        s.a.apply(ctx, op, alpha, X.view(), beta, Y.view());
        const std::string what =
            detail::concat(describe(s.a), op == Op::none ? "" : "^T", " n=", n, " layouts ", layout, '/', y_layout,
                           " alpha=", static_cast<double>(alpha), " beta=", static_cast<double>(beta));
        expect_applied(s, op, alpha, X.view(), beta, in_double(before.view()), std::as_const(Y).view(), what);
        EXPECT_TRUE(Y.gaps_equal(before)) << what << " wrote outside its result";
      }
  }
}

/// alpha == 0 reads no X, whatever it holds, and leaves the nearest number to beta * Y.
template <class S>
void check_zero_law(const Subject<S>& s) {
  Context ctx;
  for (const Op op : {Op::none, Op::transpose})
    for (const S beta : {S(0), S(1), S(-0.75)})
      for (const S bad : {std::numeric_limits<S>::quiet_NaN(), std::numeric_limits<S>::infinity()})
        for (const int layout : {Grid<S>::column_major, Grid<S>::row_major, Grid<S>::strided_rows}) {
          const Index n = layout == Grid<S>::column_major ? 1 : 5;
          Grid<S> X(s.cols(op), n, layout, 1), Y(s.rows(op), n, layout, 2);
          const Grid<S> before = Y;
          X.fill(bad);
          if (beta == S(0)) Y.fill(bad);
          s.a.apply(ctx, op, S(0), std::as_const(X).view(), beta, Y.view());
          for (Index i = 0; i < s.rows(op); ++i)
            for (Index j = 0; j < n; ++j)
              ASSERT_EQ(Y.view()(i, j), beta == S(0) ? S(0) : beta * before.view()(i, j))
                  << describe(s.a) << (op == Op::none ? "" : "^T") << " times 0 reads " << bad << ", beta " << beta;
        }
}

template <class S>
void check_adjoint_law(const Subject<S>& s) {
  Context ctx;
  const Grid<S> x(s.a.cols(), 1, 0, 3), y(s.a.rows(), 1, 0, 4);
  Grid<S> ax(s.a.rows(), 1, 0, 5), aty(s.a.cols(), 1, 0, 6);
  s.a.apply(ctx, Op::none, S(1), x.view(), S(0), ax.view());
  s.a.apply(ctx, Op::transpose, S(1), y.view(), S(0), aty.view());
  const Eigen::MatrixXd xd = in_double(x.view()), yd = in_double(y.view());
  const double left = in_double(ax.view()).cwiseProduct(yd).sum();
  const double right = in_double(aty.view()).cwiseProduct(xd).sum();
  double allowed =
      gamma<S>(s.roundings[0] + s.roundings[1]) * yd.cwiseAbs().cwiseProduct(s.magnitude * xd.cwiseAbs()).sum();
  for (Index i = 0; i < s.a.rows(); ++i) allowed += std::abs(yd(i, 0)) * s.extra(Op::none, i, x.view().col(0));
  for (Index i = 0; i < s.a.cols(); ++i) allowed += std::abs(xd(i, 0)) * s.extra(Op::transpose, i, y.view().col(0));
  EXPECT_LE(std::abs(left - right), allowed) << describe(s.a);
}

template <class S>
void check_threads_law(const Subject<S>& s) {
  Context one;
  for (const Op op : {Op::none, Op::transpose})
    for (const Index n : {1, 9}) {
      const Grid<S> X(s.cols(op), n, 0, 5);
      Grid<S> expected(s.rows(op), n, 0, 6);
      s.a.apply(one, op, S(1.5), X.view(), S(0.5), expected.view());
      for (const Index threads : {2, 3}) {
        Context many = Context::with_threads(threads);
        Grid<S> Y(s.rows(op), n, 0, 6);
        s.a.apply(many, op, S(1.5), X.view(), S(0.5), Y.view());
        EXPECT_TRUE(in_double(Y.view()) == in_double(expected.view()))
            << describe(s.a) << ", " << threads << " threads";
      }
    }
}

template <class S>
void check_shape_law(const Subject<S>& s) {
  Context ctx;
  for (const Op op : {Op::none, Op::transpose}) {
    const Index rows = s.rows(op), cols = s.cols(op);
    const auto expect_named = [&](Index x_rows, Index x_cols, Index y_rows, Index y_cols, const std::string& wrong) {
      const Grid<S> X(x_rows, x_cols, 0, 7);
      Grid<S> Y(y_rows, y_cols, 0, 8);
      std::string text = "no error";
      try {
        s.a.apply(ctx, op, S(1), X.view(), S(0), Y.view());
      } catch (const shape_error& e) {
        text = e.what();
      }
      if (!s.is_expression) {
        EXPECT_NE(text.find(describe(s.a)), std::string::npos) << text;
      }
      EXPECT_NE(text, "no error");
      EXPECT_NE(text.find(wrong), std::string::npos) << text;
    };
    expect_named(cols + 1, 2, rows, 2, detail::shape_text(cols + 1, 2));
    expect_named(cols, 2, rows + 1, 2, detail::shape_text(rows + 1, 2));
    expect_named(cols, 2, rows, 3, detail::shape_text(rows, 3));
  }
}

template <class S>
void check_description_law(const Subject<S>& s) {
  if (!s.is_expression) {  // an expression names its operands
    EXPECT_NE(describe(s.a).find(detail::shape_text(s.a.rows(), s.a.cols())), std::string::npos) << describe(s.a);
  }
  std::size_t read = 0;
  s.a.for_each_buffer([&](ByteRange range) {
    read += static_cast<std::size_t>(static_cast<const char*>(range.last) - static_cast<const char*>(range.first));
  });
  EXPECT_GE(read, bytes(s.a)) << describe(s.a) << " does not show all it reads";
  EXPECT_GE(flops(s.a, 3), 0.0);
  ASSERT_EQ(s.dense.rows(), s.a.rows());
  ASSERT_EQ(s.dense.cols(), s.a.cols());
  const Eigen::MatrixXd allowed = gamma<S>(s.roundings[0]) * s.magnitude;
  EXPECT_TRUE(((s.dense - s.value).cwiseAbs().array() <= allowed.array()).all()) << describe(s.a);
  if (!s.has_diagonal) return;
  ASSERT_EQ(s.diagonal.size(), std::min(s.a.rows(), s.a.cols()));
  for (Index i = 0; i < s.diagonal.size(); ++i)
    EXPECT_LE(std::abs(s.diagonal[i] - s.value(i, i)), allowed(i, i)) << describe(s.a);
}

template <class S>
void check_alias_law(const Subject<S>& s) {  // y = A * y
  if (s.a.rows() != s.a.cols()) return;
  const Grid<S> x(s.a.rows(), 1, 0, 9);
  Grid<S> y = x, expected(s.a.rows(), 1, 0, 10);
  s.a.apply(default_context(), Op::none, S(1), x.view(), S(0), expected.view());
  auto to = detail::eigen_map(y.view());
  to = s.a * to;
  EXPECT_TRUE(in_double(y.view()) == in_double(expected.view())) << describe(s.a);
}

template <class S>
void check_solve_law(const Subject<S>& s) {  // backward stable: |A X - B| <= c·N·u·(|A||X| + |B|)
  Context ctx;
  for (const Op op : {Op::none, Op::transpose}) {
    if (s.a.rows() != s.a.cols() || s.a.rows() == 0) continue;
    const Grid<S> B(s.a.rows(), 3, Grid<S>::strided_rows, 11);
    Grid<S> X(s.a.rows(), 3, Grid<S>::strided_columns, 12);
    s.solve(ctx, op, B.view(), X.view());
    const Eigen::MatrixXd x = in_double(X.view()), b = in_double(B.view());
    const double allowed = 16 * gamma<S>(static_cast<double>(s.a.rows()) + 3) * (s.value.norm() * x.norm() + b.norm());
    EXPECT_LE((s.of(s.value, op) * x - b).norm(), allowed) << describe(s.a);
  }
}

template <class S>
void check_gradient_law(const Subject<S>& s) {  // beta is honoured, sizes are checked
  Context ctx;
  const Index n = 3;
  const Grid<S> X(s.a.cols(), n, Grid<S>::row_major, 13), dY(s.a.rows(), n, Grid<S>::strided_columns, 14);
  const auto count = static_cast<std::size_t>(s.a.parameter_count());
  std::vector<S> grad(count, std::numeric_limits<S>::quiet_NaN());
  s.a.grad(ctx, X.view(), dY.view(), S(0), grad);
  std::vector<S> more(count, S(1));
  s.a.grad(ctx, X.view(), dY.view(), S(2), more);
  for (std::size_t i = 0; i < count; ++i) {
    ASSERT_FALSE(std::isnan(grad[i]));
    EXPECT_NEAR(static_cast<double>(more[i]), static_cast<double>(grad[i]) + 2,
                1e-5 * (1 + std::abs(static_cast<double>(grad[i]))));
  }
  std::vector<S> wrong(count + 1);
  EXPECT_THROW(s.a.grad(ctx, X.view(), dY.view(), S(0), wrong), shape_error);
  EXPECT_THROW(s.a.grad(ctx, Grid<S>(s.a.cols() + 1, n, 0, 1).view(), dY.view(), S(0), grad), shape_error);
}

// TESSERA_OPERATOR_LAWS(extern, S) declares the laws of one Scalar, TESSERA_OPERATOR_LAWS(, S) is their definition.
#define TESSERA_OPERATOR_LAWS(EXTERN, S)                                                                           \
  EXTERN template void expect_applied<S>(const Subject<S>&, Op, S, MatrixView<const S>, S, const Eigen::MatrixXd&, \
                                         MatrixView<const S>, const std::string&);                                 \
  EXTERN template void check_apply_law<S>(const Subject<S>&);                                                      \
  EXTERN template void check_zero_law<S>(const Subject<S>&);                                                       \
  EXTERN template void check_adjoint_law<S>(const Subject<S>&);                                                    \
  EXTERN template void check_threads_law<S>(const Subject<S>&);                                                    \
  EXTERN template void check_shape_law<S>(const Subject<S>&);                                                      \
  EXTERN template void check_description_law<S>(const Subject<S>&);                                                \
  EXTERN template void check_alias_law<S>(const Subject<S>&);                                                      \
  EXTERN template void check_solve_law<S>(const Subject<S>&);                                                      \
  EXTERN template void check_gradient_law<S>(const Subject<S>&);
TESSERA_OPERATOR_LAWS(extern, float)  // operator_laws.cpp
TESSERA_OPERATOR_LAWS(extern, double)

/// f(parameter&) for all of them in the order of `grad`. Types whose parameters are in parts overload it.
template <class A, class F>
requires requires(A& a) { a.parameters(); }
void for_each_parameter(A& a, F&& f) {
  for (auto& p : a.parameters()) f(p);
}
template <class A, class F>
requires(!Trainable<A>) void for_each_parameter(A&, F&&) {}

/// grad against central differences of <dY, A X>; `parameters` point into a.
void check_derivative_law(const AnyOperator<double>& a, std::span<double* const> parameters);

/// One kind of operator, as its laws are registered: gtest's typed tests would be a class a law and kind.
template <class S>
struct LawfulKind {
  const std::vector<Subject<S>>& (*subjects)();
  void (*check_derivatives)();  // or nullptr
};
/// Registers the laws of kind number `index` as tests of "<suite>/OperatorLaws/<index>".
template <class S>
void register_laws(const std::string& suite, int index, const std::string& type, LawfulKind<S> kind);
extern template void register_laws<float>(const std::string&, int, const std::string&, LawfulKind<float>);
extern template void register_laws<double>(const std::string&, int, const std::string&, LawfulKind<double>);

template <class Case>
const std::vector<Subject<scalar_of<typename Case::Operator>>>& subjects_of() {
  static const auto all = [] {
    std::vector<Subject<scalar_of<typename Case::Operator>>> made;
    for (const auto& a : Case::samples()) made.push_back(make_subject(a));
    return made;
  }();
  return all;
}
template <class Case>
void check_derivatives_of() {
  for (const auto& a : Case::samples())
    if (a.parameter_count() < 2000) {
      using Held = Lawful<typename Case::Operator>;
      AnyOperator<double> any = Held(a);
      std::vector<double*> parameters;
      for_each_parameter(any.target<Held>()->a, [&](double& p) { parameters.push_back(&p); });
      check_derivative_law(any, parameters);
    }
}
template <class Case>
constexpr auto lawful_kind() {
  using A = typename Case::Operator;
  LawfulKind<scalar_of<A>> kind{&subjects_of<Case>, nullptr};
  if constexpr (Trainable<A> && std::same_as<scalar_of<A>, double>)
    if constexpr (requires(A a) { for_each_parameter(a, [](double&) {}); })
      kind.check_derivatives = &check_derivatives_of<Case>;
  return kind;
}

/// `const bool registered = OperatorLaws<Types>::of("Suite");` tests the laws of each of ::testing::Types<Case, …>.
template <class Types>
struct OperatorLaws;
template <class... Cases>
struct OperatorLaws<::testing::Types<Cases...>> {
  static bool of(const std::string& suite) {
    int index = 0;
    (register_laws(suite, index++, ::testing::internal::GetTypeName<Cases>(), lawful_kind<Cases>()), ...);
    return true;
  }
};

}  // namespace tessera::test
