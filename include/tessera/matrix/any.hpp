/// Any operator behind one type.
#pragma once

#include <algorithm>
#include <complex>
#include <concepts>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include <tessera/expr/tagged.hpp>
#include <tessera/matrix/detail/any_forms.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {
/// Given to for_each_buffer, finds how deep an operator's AnyOperators are inside each other: they say so and go no
/// further.
struct AnyNesting {
  Index depth = 0;
  void operator()(ByteRange) const {}
};
/// At most 14 KiB of stack a level were seen, of products by Kronecker factors without optimisation, under ASan.
inline constexpr Index most_any_nesting = 500;
}  // namespace detail

/// Any LinearOperator of scalar S, chosen at run time. Copies share the operator, which nobody else can reach unless
/// it was wrapped as a view; parameters changed through one copy are changed for all. One indirect call an operation.
/// What the operator has in closed form (closed_form.hpp) is found through it: `knows(form)` says what. Every level of
/// `s = s + a` takes stack when it is used: throws unsupported_error beyond 500 inside each other.
template <class S>
class AnyOperator : public OperatorBase<AnyOperator<S>> {
 public:
  using Scalar = S;
  static constexpr bool is_view = true;  // expressions copy it

  AnyOperator() : AnyOperator(Empty{}) {}
  /// Takes the operator in. For one that stays yours, wrap a view of it.
  template <class A, unsigned forms = detail::forms_taken<S, AnyOperator, std::remove_cvref_t<A>>>
  requires(!std::same_as<std::remove_cvref_t<A>, AnyOperator> && LinearOperator<A> &&
           std::same_as<typename std::remove_cvref_t<A>::Scalar, S>)
      AnyOperator(A&& a)  // NOLINT(google-explicit-constructor): an operator is an AnyOperator
      : self_(std::make_shared<Model<std::remove_cvref_t<A>, forms>>(std::forward<A>(a))) {}

  Index rows() const { return self_->rows(); }
  Index cols() const { return self_->cols(); }
  void apply(Context& ctx, Op op, S alpha, MatrixView<const S> X, S beta, MatrixView<S> Y) const {
    self_->apply(ctx, op, alpha, X, beta, Y);
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    if constexpr (std::same_as<std::remove_cvref_t<F>, detail::AnyNesting>)
      f.depth = std::max(f.depth, self_->nesting);
    else
      self_->for_each_buffer(
          [](void* object, ByteRange range) { (*static_cast<std::remove_reference_t<F>*>(object))(range); },
          const_cast<void*>(static_cast<const void*>(std::addressof(f))));
  }
  std::string describe() const { return self_->describe(); }
  std::size_t bytes() const { return self_->bytes(); }
  double flops(Index n) const { return self_->flops(n); }
  void explain(Context& ctx, Op op, Index n, const KernelSink& sink) const { self_->explain(ctx, op, n, sink); }

  /// 0 for an operator that cannot be trained.
  Index parameter_count() const { return self_->parameter_count(); }
  /// As the operator's own; does nothing for one without parameters.
  void grad(Context& ctx, MatrixView<const S> X, MatrixView<const S> dY, S beta, std::span<S> dparams) const {
    self_->grad(ctx, X, dY, beta, dparams);
  }
  /// The operator's parameters if it offers them in S, else empty.
  std::span<S> parameters() { return self_->parameters(); }

  /// The operator has this form. The members below throw unsupported_error for what it has not.
  bool knows(Form form) const { return self_->knows(form); }
  /// Properties of the operator's type or tags.
  Property held_properties() const { return self_->properties(); }
  void solve(Context& ctx, Op op, MatrixView<const S> B, MatrixView<S> X) const {
    detail::check_solve(*this, B, X);
    known(Form::solve).solve(ctx, op, B, X);
  }
  /// How the operator solves, where it says so.
  std::string solve_method() const { return detail::concat("that of (", describe(), ")", self_->solve_method()); }
  /// Of an operator that does not know it, from products with the identity.
  Eigen::VectorX<S> diagonal() const { return self_->diagonal(); }
  S diagonal_sum() const { return known(Form::diagonal_sum).diagonal_sum(); }
  LogDeterminant<S> log_determinant() const { return known(Form::log_determinant).log_determinant(); }
  S frobenius_norm() const { return known(Form::frobenius_norm).frobenius_norm(); }
  Eigen::VectorX<S> singular_values() const { return known(Form::singular_values).singular_values(); }
  Eigen::VectorX<std::complex<S>> eigenvalues() const { return known(Form::eigenvalues).eigenvalues(); }
  /// A⁻¹, A⁺, exp(A) or √A by the operator's rule, which inverse(), pinv(), exp() and sqrt() take.
  AnyOperator function(Form form) const { return known(form).function(form); }

  /// The operator itself if it is an A, else nullptr.
  template <class A>
  A* target() {
    auto* model = dynamic_cast<Holder<A>*>(self_.get());
    return model == nullptr ? nullptr : &model->a;
  }
  template <class A>
  const A* target() const {
    return const_cast<AnyOperator*>(this)->template target<A>();
  }

 private:
  struct Empty {  // 0x0
    using Scalar = S;
    Index rows() const { return 0; }
    Index cols() const { return 0; }
    void apply(Context&, Op op, S, MatrixView<const S> X, S, MatrixView<S> Y) const { check_apply(*this, op, X, Y); }
    template <class F>
    void for_each_buffer(F&&) const {}
    static constexpr std::string_view type_name = "empty";
  };

  using Visit = void (*)(void*, ByteRange);

  struct Interface {
    Index nesting = 1;
    virtual ~Interface() = default;
    virtual Index rows() const = 0;
    virtual Index cols() const = 0;
    virtual void apply(Context&, Op, S, MatrixView<const S>, S, MatrixView<S>) const = 0;
    virtual void for_each_buffer(Visit, void*) const = 0;
    virtual std::string describe() const = 0;
    virtual std::size_t bytes() const = 0;
    virtual double flops(Index) const = 0;
    virtual void explain(Context&, Op, Index, const KernelSink&) const = 0;
    virtual Index parameter_count() const = 0;
    virtual void grad(Context&, MatrixView<const S>, MatrixView<const S>, S, std::span<S>) const = 0;
    virtual std::span<S> parameters() = 0;
    virtual bool knows(Form) const = 0;
    virtual Property properties() const = 0;
    virtual void solve(Context&, Op, MatrixView<const S>, MatrixView<S>) const = 0;
    virtual std::string solve_method() const = 0;
    virtual Eigen::VectorX<S> diagonal() const = 0;
    virtual S diagonal_sum() const = 0;
    virtual LogDeterminant<S> log_determinant() const = 0;
    virtual S frobenius_norm() const = 0;
    virtual Eigen::VectorX<S> singular_values() const = 0;
    virtual Eigen::VectorX<std::complex<S>> eigenvalues() const = 0;
    virtual AnyOperator function(Form) const = 0;

    Eigen::VectorX<S> diagonal_by_columns() const {
      Eigen::VectorX<S> d(std::min(rows(), cols())), unit = Eigen::VectorX<S>::Zero(cols()), column(rows());
      for (Index j = 0; j < d.size(); ++j) {
        unit[j] = S(1);
        apply(default_context(), Op::none, S(1), view(std::as_const(unit)), S(0), view(column));
        unit[j] = S(0);
        d[j] = column[j];
      }
      return d;
    }
  };
  const Interface& known(Form form) const {
    if (!knows(form))
      throw unsupported_error(detail::concat("tessera: ", detail::form_name(form), " of (", describe(),
                                             "): its type has no closed form; the functions of solve/ iterate"));
    return *self_;
  }

  template <class A>
  struct Holder : Interface {
    template <class B>
    explicit Holder(B&& b) : a(std::forward<B>(b)) {
      detail::AnyNesting inside;
      a.for_each_buffer(inside);
      this->nesting = inside.depth + 1;
      if (this->nesting > detail::most_any_nesting)
        throw unsupported_error(detail::concat(
            "tessera: AnyOperator of (", tessera::describe(a), "): ", this->nesting,
            " AnyOperators inside each other, expected at most ", detail::most_any_nesting,
            ": sum_of, kronecker, block_diagonal and stacks hold any number side by side, and (A*B)*(C*D) is half as "
            "deep as A*(B*(C*D))"));
    }
    A a;
  };
  /// `forms` are all that A has, or those of them that the result of a rule keeps.
  template <class A, unsigned forms>
  struct Model final : Holder<A> {
    using Holder<A>::Holder;
    using Holder<A>::a;
    Index rows() const override { return a.rows(); }
    Index cols() const override { return a.cols(); }
    void apply(Context& ctx, Op op, S alpha, MatrixView<const S> X, S beta, MatrixView<S> Y) const override {
      a.apply(ctx, op, alpha, X, beta, Y);
    }
    void for_each_buffer(Visit visit, void* object) const override {
      a.for_each_buffer([=](ByteRange range) { visit(object, range); });
    }
    std::string describe() const override { return tessera::describe(a); }
    std::size_t bytes() const override { return tessera::bytes(a); }
    double flops(Index n) const override { return tessera::flops(a, n); }
    void explain(Context& ctx, Op op, Index n, const KernelSink& sink) const override {
      if constexpr (requires { a.explain(ctx, op, n, sink); }) a.explain(ctx, op, n, sink);
    }
    Index parameter_count() const override {
      if constexpr (Trainable<A>)
        return a.parameter_count();
      else
        return 0;
    }
    void grad(Context& ctx, MatrixView<const S> X, MatrixView<const S> dY, S beta,
              std::span<S> dparams) const override {
      if constexpr (Trainable<A>)
        a.grad(ctx, X, dY, beta, dparams);
      else if (!dparams.empty())
        throw shape_error(detail::concat("tessera: gradient of (", tessera::describe(a), ") into ", dparams.size(),
                                         " values, it has no parameters"));
    }
    std::span<S> parameters() override {
      if constexpr (requires { std::span<S>(a.parameters()); })
        return std::span<S>(a.parameters());
      else
        return {};
    }
    static constexpr bool has_form(Form form) { return (forms & static_cast<unsigned>(form)) != 0; }
    bool knows(Form form) const override { return has_form(form) && detail::any_knows(a, form); }
    Property properties() const override { return tessera::held_properties(a); }
    void solve(Context& ctx, Op op, MatrixView<const S> B, MatrixView<S> X) const override {
      if constexpr (Solvable<A>)
        a.solve(ctx, op, B, X);
      else if constexpr (has_form(Form::solve))
        detail::invert_held(A(a)).apply(ctx, op, S(1), B, S(0), X);
    }
    std::string solve_method() const override {
      if constexpr (requires { a.solve_method(); })
        return detail::concat(": ", a.solve_method());
      else
        return Solvable<A> ? "" : ": inverse()";
    }
    Eigen::VectorX<S> diagonal() const override {
      if constexpr (has_form(Form::diagonal))
        return a.diagonal();
      else
        return this->diagonal_by_columns();
    }
    S diagonal_sum() const override {
      if constexpr (requires { a.diagonal_sum(); })
        return a.diagonal_sum();
      else
        return diagonal().sum();
    }
    LogDeterminant<S> log_determinant() const override { return *closed_log_determinant(a, true); }
    S frobenius_norm() const override { return *closed_norm(a, true); }
    Eigen::VectorX<S> singular_values() const override { return *closed_singular_values(a, true); }
    Eigen::VectorX<std::complex<S>> eigenvalues() const override { return *closed_eigenvalues(a, true); }
    AnyOperator function(Form form) const override {
      // Of a result only its solve and inverse are kept, so that types do not grow without end.
      const auto take = []<class R>(R result) {
        if constexpr (std::same_as<R, AnyOperator>) {
          return result;
        } else {
          constexpr unsigned kept = detail::any_forms<R> & ~detail::rule_forms;
          return AnyOperator(std::make_shared<Model<R, kept>>(std::move(result)));
        }
      };
      if constexpr (has_form(Form::inverse))
        if (form == Form::inverse) return take(detail::invert_held(A(a)));
      if constexpr (has_form(Form::pseudo_inverse))
        if (form == Form::pseudo_inverse) return take(detail::rule_result(pseudo_inverted(a), a));
      if constexpr (has_form(Form::exponential))
        if (form == Form::exponential) return take(detail::rule_result(exponential(a), a));
      if constexpr (has_form(Form::square_root))
        if (form == Form::square_root) return take(detail::rule_result(square_root(a), a));
      return {};
    }
  };
  explicit AnyOperator(std::shared_ptr<Interface> self) : self_(std::move(self)) {}

  std::shared_ptr<Interface> self_;
};

template <LinearOperator A>
AnyOperator(const A&) -> AnyOperator<typename A::Scalar>;

/// The inverse of what it holds. Throws unsupported_error where that has none.
template <class S>
AnyOperator<S> inverted(const AnyOperator<S>& A) {
  return A.function(Form::inverse);
}

}  // namespace tessera::inline TESSERA_ABI
