/// `explain(expr)`: the order an expression is evaluated in, each kernel chosen, each candidate passed over and why,
/// operations and bytes. Nothing is computed.
#pragma once

#include <algorithm>
#include <array>
#include <cstdio>
#include <iterator>
#include <ostream>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <tessera/expr/evaluate.hpp>

namespace tessera::inline TESSERA_ABI {

/// A kernel that was considered; `why` is empty for the one that runs.
struct KernelChoice {
  std::string name;
  std::string why;
};

/// One multiplication or addition of an evaluation.
struct Step {
  std::string text;  // "t1 64x1 = (Dense 512x64)^T * Eigen 512x1"
  double flops = 0;  // multiplications and additions
  double bytes = 0;  // of operands read and results written
  std::vector<KernelChoice> kernels;
};

struct Explanation {
  std::string expression;  // the rewritten tree
  std::vector<Step> steps;
  double flops = 0;
  double bytes = 0;
  int temporaries = 0;

  std::string text() const;
  friend std::ostream& operator<<(std::ostream& out, const Explanation& e) { return out << e.text(); }
};

namespace detail {

/// "131 kB"
inline std::string quantity_text(double value, const char* unit) {
  constexpr const char* prefixes[] = {"", "k", "M", "G", "T", "P"};
  std::size_t p = 0;
  for (; value >= 1000 && p + 1 < std::size(prefixes); ++p) value /= 1000;
  char text[48];
  std::snprintf(text, sizeof text, "%.3g %s%s", value, prefixes[p], unit);
  return text;
}

/// The kernels of an operator, of its parts if it is a node.
template <class A>
void explain_operator(const A& a, Context& ctx, Op op, Index n, const KernelSink& sink) {
  if constexpr (is_ref<A>)
    explain_operator(a.get(), ctx, op, n, sink);
  else if constexpr (is_scaled<A>)
    explain_operator(a.inner(), ctx, op, n, sink);
  else if constexpr (is_transposed<A>)
    explain_operator(a.inner(), ctx, flip(op), n, sink);
  else if constexpr (is_sum<A>)
    std::apply([&](const auto&... term) { (explain_operator(term, ctx, op, n, sink), ...); }, a.terms());
  else if constexpr (is_product<A>)
    std::apply([&](const auto&... factor) { (explain_operator(factor, ctx, op, n, sink), ...); }, a.factors());
  else if constexpr (requires { a.explain(ctx, op, n, sink); })
    a.explain(ctx, op, n, sink);
}

template <class A>
struct FactorTextOf {
  static constexpr FactorText value{[](const void* p) { return text_of(*static_cast<const A*>(p)); },
                                    [](const void* p) {
                                      if constexpr (LinearOperator<A>)
                                        return tessera::bytes(*static_cast<const A*>(p));
                                      else
                                        return std::size_t{0};
                                    },
                                    [](const void* p, Context& ctx, Op op, Index n, const KernelSink& sink) {
                                      if constexpr (LinearOperator<A>)
                                        explain_operator(*static_cast<const A*>(p), ctx, op, n, sink);
                                    }};
};

template <class S>
std::string factor_text(const Factor<S>& f) {
  const std::string text = f.text->describe(f.object);
  if (f.op == Op::transpose) return concat('(', text, ")^T");
  return f.kind == Factor<S>::deferred ? concat('(', text, ')') : text;
}

template <class S>
class Explainer {
 public:
  Explainer(Context& ctx, Explanation& out) : ctx_(ctx), out_(out) {}

  /// The product with the order it is evaluated in.
  std::string tree(const ChainPlan<S>& plan, Index i, Index j) const {
    if (i == j) return factor_text(plan.factor(i));
    const Index k = plan.cut(i, j);
    const auto side = [&](Index a, Index b) { return a == b ? tree(plan, a, b) : concat('(', tree(plan, a, b), ')'); };
    return side(i, k) + " * " + side(k + 1, j);
  }

  /// target (+)= alpha * product, and the steps before it.
  void steps(const ChainPlan<S>& plan, Index i, Index j, const std::string& target, S alpha, bool accumulate) {
    const Index k = plan.cut(i, j);
    const Index rows = plan.factor(i).rows, inner = plan.factor(k).cols, cols = plan.factor(j).cols;
    const std::string left = value(plan, i, k), right = value(plan, k + 1, j);
    Step step;
    step.text =
        concat(target, ' ', shape_text(rows, cols), accumulate ? " += " : " = ",
               alpha == S(1) ? std::string() : number_text(static_cast<double>(alpha)) + " * ", left, " * ", right);
    step.flops = plan.step_flops(i, k, j);
    const auto sink = [&](std::string_view name, std::string_view why) {
      step.kernels.push_back({std::string(name), std::string(why)});
    };
    double elements = static_cast<double>(rows * cols) * (accumulate ? 2 : 1);
    if (plan.is_operator(i, k)) {
      const auto& A = plan.factor(i);
      A.text->explain(A.object, ctx_, A.op, cols, sink);
      step.bytes += static_cast<double>(A.text->bytes(A.object));
      elements += static_cast<double>(inner * cols);
    } else if (plan.is_operator(k + 1, j)) {
      const auto& B = plan.factor(j);
      B.text->explain(B.object, ctx_, flip(B.op), rows, sink);
      step.bytes += static_cast<double>(B.text->bytes(B.object));
      elements += static_cast<double>(rows * inner);
    } else {
      const auto& A = plan.factor(i);
      const bool there = i == k && A.kind == Factor<S>::dense;
      dense_explain<S>(ctx_, there ? A.view : MatrixView<const S>(nullptr, {rows, inner}, {1, rows}), cols, sink);
      elements += static_cast<double>(rows * inner + inner * cols);
    }
    step.bytes += elements * sizeof(S);
    add(std::move(step));
  }

  void copy(const Factor<S>& f, const std::string& target, S alpha, bool accumulate) {
    Step step;
    step.text = concat(target, ' ', shape_text(f.rows, f.cols), accumulate ? " += " : " = ",
                       alpha == S(1) ? std::string() : number_text(static_cast<double>(alpha)) + " * ", factor_text(f));
    const double elements = static_cast<double>(f.rows * f.cols);
    step.flops = elements * ((accumulate ? 1 : 0) + (alpha == S(1) ? 0 : 1));
    step.bytes = elements * (accumulate ? 3 : 2) * sizeof(S);
    add(std::move(step));
  }

  /// One term of a sum.
  void term(std::span<const Factor<S>> factors, const std::string& target, S alpha, bool accumulate) {
    std::string text;
    if (factors.size() == 1) {
      text = factor_text(factors[0]);
      copy(factors[0], target, alpha, accumulate);
    } else {
      Workspace::Scope scope(ctx_.workspace);
      const ChainPlan<S> plan(scope, factors);
      text = tree(plan, 0, plan.size() - 1);
      steps(plan, 0, plan.size() - 1, target, alpha, accumulate);
    }
    if (!out_.expression.empty()) out_.expression += " + ";
    if (alpha != S(1)) out_.expression += number_text(static_cast<double>(alpha)) + " * ";
    out_.expression += text;
  }

 private:
  std::string value(const ChainPlan<S>& plan, Index i, Index j) {
    if (i == j) return factor_text(plan.factor(i));
    const std::string name = concat('t', ++out_.temporaries);
    steps(plan, i, j, name, S(1), false);
    return name;
  }
  void add(Step step) {
    out_.flops += step.flops;
    out_.bytes += step.bytes;
    out_.steps.push_back(std::move(step));
  }

  Context& ctx_;
  Explanation& out_;
};

}  // namespace detail

inline std::string Explanation::text() const {
  std::string out = expression + "\n";
  for (const auto& step : steps) {
    out += detail::concat("  ", step.text, "   [", detail::quantity_text(step.flops, "flop"), ", ",
                          detail::quantity_text(step.bytes, "B"), "]\n");
    std::size_t width = 0;
    for (const auto& kernel : step.kernels) width = std::max(width, kernel.name.size());
    for (const auto& kernel : step.kernels)
      out += detail::concat(kernel.why.empty() ? "    > " : "      ", kernel.name,
                            std::string(width - kernel.name.size() + 2, ' '),
                            kernel.why.empty() ? std::string("chosen") : kernel.why, '\n');
  }
  return out + detail::concat("  total ", detail::quantity_text(flops, "flop"), ", ", detail::quantity_text(bytes, "B"),
                              '\n');
}

/// How a dense-valued expression will be evaluated.
template <DenseExpression E>
Explanation explain(Context& ctx, const E& expr) {
  using S = scalar_of<E>;
  Explanation out;
  detail::Explainer<S> explainer(ctx, out);
  bool accumulate = false;
  detail::for_each_term(expr, Op::none, S(1), [&]<class T>(const T& term, Op op, S alpha) {
    std::array<detail::Factor<S>, detail::factor_count<T>> factors;
    auto* end = factors.data();
    detail::collect_factors<true>(term, op, alpha, end);
    explainer.term(std::span<const detail::Factor<S>>(factors.data(), end), "y", alpha, accumulate);
    accumulate = true;
  });
  return out;
}

/// How an operator will be applied to a column-major X of n columns.
template <LinearOperator A>
Explanation explain(Context& ctx, const A& a, Index n = 1) {
  using S = scalar_of<A>;
  Explanation out;
  detail::Explainer<S> explainer(ctx, out);
  bool accumulate = false;
  const detail::FactorText x_text{[](const void* p) {
                                    const auto& X = *static_cast<const MatrixView<const S>*>(p);
                                    return detail::concat("X ", detail::shape_text(X.rows(), X.cols()));
                                  },
                                  nullptr, nullptr};
  const MatrixView<const S> X(nullptr, {a.cols(), n}, {1, a.cols()});
  detail::for_each_term(a, Op::none, S(1), [&]<class T>(const T& term, Op op, S alpha) {
    std::array<detail::Factor<S>, detail::factor_count<T> + 1> factors;
    auto* end = factors.data();
    detail::collect_factors<true>(term, op, alpha, end);
    end->rows = X.rows();
    end->cols = n;
    end->view = X;
    end->object = &X;
    end->text = &x_text;
    explainer.term(std::span<const detail::Factor<S>>(factors.data(), end + 1), "y", alpha, accumulate);
    accumulate = true;
  });
  return out;
}

template <Expression E, class... N>
Explanation explain(const E& expr, N... n) {
  return explain(default_context(), expr, n...);
}

}  // namespace tessera::inline TESSERA_ABI
