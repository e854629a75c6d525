/// Any operator behind one type.
#pragma once

#include <concepts>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include <tessera/expr/expr.hpp>

namespace tessera::inline TESSERA_ABI {

/// Any LinearOperator of scalar S, chosen at run time. Copies share the operator, which nobody else can reach unless
/// it was wrapped as a view; parameters changed through one copy are changed for all. One indirect call an operation.
template <class S>
class AnyOperator : public OperatorBase<AnyOperator<S>> {
 public:
  using Scalar = S;
  static constexpr bool is_view = true;  // expressions copy it

  AnyOperator() : AnyOperator(Empty{}) {}
  /// Takes the operator in. For one that stays yours, wrap a view of it.
  template <class A>
  requires(!std::same_as<std::remove_cvref_t<A>, AnyOperator> && LinearOperator<A> &&
           std::same_as<typename std::remove_cvref_t<A>::Scalar, S>)
      AnyOperator(A&& a)  // NOLINT(google-explicit-constructor): an operator is an AnyOperator
      : self_(std::make_shared<Model<std::remove_cvref_t<A>>>(std::forward<A>(a))) {}

  Index rows() const { return self_->rows(); }
  Index cols() const { return self_->cols(); }
  void apply(Context& ctx, Op op, S alpha, MatrixView<const S> X, S beta, MatrixView<S> Y) const {
    self_->apply(ctx, op, alpha, X, beta, Y);
  }
  template <class F>
  void for_each_buffer(F&& f) const {
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

  /// The operator itself if it is an A, else nullptr.
  template <class A>
  A* target() {
    auto* model = dynamic_cast<Model<A>*>(self_.get());
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
  };

  template <class A>
  struct Model final : Interface {
    template <class B>
    explicit Model(B&& b) : a(std::forward<B>(b)) {}
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
    A a;
  };

  std::shared_ptr<Interface> self_;
};

template <LinearOperator A>
AnyOperator(const A&) -> AnyOperator<typename A::Scalar>;

}  // namespace tessera::inline TESSERA_ABI
