/// Any optimizer behind one type, chosen at run time.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <tessera/core/context.hpp>
#include <tessera/core/types.hpp>
#include <tessera/optim/loss.hpp>
#include <tessera/optim/objective.hpp>
#include <tessera/optim/parameters.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// One buffer of a state.
using StateSpan = std::variant<std::span<float>, std::span<double>, std::span<std::int64_t>, std::span<std::uint64_t>,
                               std::span<std::int32_t>, std::span<std::uint32_t>, std::span<std::uint16_t>,
                               std::span<std::int8_t>, std::span<std::uint8_t>, std::span<bf16>>;

/// One step with whatever looks at the objective the optimizer needs: its own `step` of the objective or of the loss
/// alone (zeroth-order methods), a `perturb` before the gradient that counts (sharpness-aware methods), or one
/// gradient, whose loss the state is told (`observe_loss`). Returns the loss before the step. Throws property_error for
/// a loss that is not finite, before anything moves; after `perturb`, and where the gradient throws there, parameters
/// are where they were.
template <class O, class T, class State>
double optimizer_step(const O& opt, Context& ctx, const std::type_identity_t<Objective<T>>& objective,
                      const Parameters<T>& grads, State& state, const Parameters<T>& params) {
  if constexpr (requires { opt.step(ctx, objective, grads, state, params); }) {
    return opt.step(ctx, objective, grads, state, params);
  } else if constexpr (requires { opt.step(ctx, objective.loss, state, params).plus; }) {
    const auto seen = opt.step(ctx, objective.loss, state, params);
    const double loss = 0.5 * (seen.plus + seen.minus);
    detail::require_finite_loss(loss, params, grads);
    return loss;
  } else {
    const double loss = objective.gradient();
    detail::require_finite_loss(loss, params, grads);
    if constexpr (requires { opt.perturb(ctx, grads, state, params); }) {
      opt.perturb(ctx, grads, state, params);
      try {
        const double there = objective.gradient();
        detail::require_finite_loss(there, params, grads);
      } catch (...) {
        opt.restore(state, params);
        throw;
      }
    }
    observe_loss(state, loss);
    opt.update(ctx, grads, state, params);
    return loss;
  }
}

template <class T>
class AnyOptimizer;

/// The state of an AnyOptimizer; moves, and knows the parameters that it was made for.
template <class T>
class AnyState {
 public:
  AnyState() = default;

  /// `f(name, span)` for everything a checkpoint needs, counts among it.
  template <class F>
  void for_each_buffer(F&& f) {
    list_buffers(std::string(), f);
  }
  template <class F>
  void list_buffers(const std::string& prefix, F&& f) {
    if (self_ == nullptr) return;
    self_->list(prefix, [&f](const std::string& name, StateSpan values) {
      std::visit([&](auto span) { f(name, span); }, values);
    });
  }
  std::size_t state_bytes() {
    std::size_t total = 0;
    for_each_buffer([&](const std::string&, auto values) { total += values.size_bytes(); });
    return total;
  }
  const std::vector<ParameterInfo>& blocks() const { return blocks_; }
  void observe_loss(double value) {
    if (self_ != nullptr) self_->observe(value);
  }

 private:
  friend AnyOptimizer<T>;
  struct Base {
    virtual ~Base() = default;
    virtual void observe(double value) = 0;
    virtual void list(const std::string& prefix, const std::function<void(const std::string&, StateSpan)>& f) = 0;
  };
  template <class State>
  struct Model : Base {
    State state;
    explicit Model(State made) : state(std::move(made)) {}
    void observe(double value) override { optim::observe_loss(state, value); }
    void list(const std::string& prefix, const std::function<void(const std::string&, StateSpan)>& f) override {
      state.list_buffers(prefix, f);
    }
  };

  /// A buffer as `init` made it; steps may make it another.
  struct Kept {
    std::string name;
    std::size_t type = 0, size = 0;
    bool operator==(const Kept&) const = default;
    std::string text() const { return detail::concat("'", name, "' of ", size); }
  };

  std::vector<ParameterInfo> blocks_;
  std::vector<Kept> kept_;
  std::string optimizer_;
  std::unique_ptr<Base> self_;
  std::shared_ptr<const void> fits_;  // an optimizer whose state this is, by its buffers
};

/// Any optimizer of parameters T: a chain, a wrapper, or what has `init` and `update` or `step(ctx, objective, grads,
/// state, params)`. Copies share it; it is never changed. Two indirect calls a step.
template <class T>
class AnyOptimizer {
 public:
  using State = AnyState<T>;

  template <class O>
  requires(!std::same_as<O, AnyOptimizer>) explicit AnyOptimizer(std::string name, O opt)
      : name_(std::move(name)), self_(std::make_shared<Model<O>>(std::move(opt))) {}

  const std::string& name() const { return name_; }

  State init(const Parameters<T>& params) const {
    detail::check_memory(params, "parameter");
    State state;
    state.self_ = self_->init(params);
    state.blocks_.assign(params.begin(), params.end());
    state.self_->list(std::string(), [&](const std::string& name, StateSpan values) {
      state.kept_.push_back({name, values.index(), std::visit([](auto span) { return span.size(); }, values)});
    });
    state.optimizer_ = name_;
    state.fits_ = self_;
    return state;
  }

  /// params move by one step along grads. Throws unsupported_error for the state of another optimizer or none, for that
  /// of hyper-parameters that keep other buffers, and where the optimizer has to look at the objective by itself;
  /// shape_error for other parameters than the state was made for.
  void update(Context& ctx, const Parameters<T>& grads, State& state, const Parameters<T>& params) const {
    check(grads, state, params);
    self_->update(ctx, grads, *state.self_, params);
  }

  /// See `optimizer_step`; `objective.gradient` writes into grads.
  double step(Context& ctx, const Objective<T>& objective, const Parameters<T>& grads, State& state,
              const Parameters<T>& params) const {
    check(grads, state, params);
    return self_->step(ctx, objective, grads, *state.self_, params);
  }

  /// out ← the parameters to evaluate at: params themselves unless the optimizer keeps others (schedule_free,
  /// averaged).
  void evaluation(Context& ctx, State& state, const Parameters<T>& params, const Parameters<T>& out) const {
    check(out, state, params, "outputs", "output");
    self_->evaluation(ctx, *state.self_, params, out);
  }

 private:
  using StateBase = typename State::Base;
  struct Base {
    virtual ~Base() = default;
    virtual std::unique_ptr<StateBase> init(const Parameters<T>& params) const = 0;
    virtual bool owns(const StateBase& state) const = 0;
    virtual void update(Context&, const Parameters<T>&, StateBase&, const Parameters<T>&) const = 0;
    virtual double step(Context&, const Objective<T>&, const Parameters<T>&, StateBase&,
                        const Parameters<T>&) const = 0;
    virtual void evaluation(Context&, StateBase&, const Parameters<T>&, const Parameters<T>&) const = 0;
  };
  template <class O>
  struct Model final : Base {
    using Its = decltype(std::declval<const O&>().init(std::declval<const Parameters<T>&>()));
    using Held = typename State::template Model<Its>;
    O opt;
    explicit Model(O made) : opt(std::move(made)) {}

    static Its& its(StateBase& state) { return static_cast<Held&>(state).state; }
    std::unique_ptr<StateBase> init(const Parameters<T>& params) const override {
      return std::make_unique<Held>(opt.init(params));
    }
    bool owns(const StateBase& state) const override { return dynamic_cast<const Held*>(&state) != nullptr; }
    void update(Context& ctx, const Parameters<T>& grads, StateBase& state,
                const Parameters<T>& params) const override {
      if constexpr (requires { opt.update(ctx, grads, its(state), params); })
        opt.update(ctx, grads, its(state), params);
      else
        throw unsupported_error("tessera: update of an optimizer that looks at the objective by itself; expected step");
    }
    double step(Context& ctx, const Objective<T>& objective, const Parameters<T>& grads, StateBase& state,
                const Parameters<T>& params) const override {
      return optimizer_step(opt, ctx, objective, grads, its(state), params);
    }
    void evaluation(Context& ctx, StateBase& state, const Parameters<T>& params,
                    const Parameters<T>& out) const override {
      if constexpr (requires { opt.evaluation(ctx, its(state), params, out); }) {
        opt.evaluation(ctx, its(state), params, out);
      } else {
        constexpr bool swaps = requires { opt.swap(its(state), params); };
        if constexpr (swaps) opt.swap(its(state), params);
        for (std::size_t b = 0; b < out.size(); ++b) std::copy_n(params[b].data, params[b].size(), out[b].data);
        if constexpr (swaps) opt.swap(its(state), params);
      }
    }
  };

  void check(const Parameters<T>& others, State& state, const Parameters<T>& params, const char* all = "gradients",
             const char* one = "gradient of") const {
    if (state.self_ == nullptr)
      throw unsupported_error(
          detail::concat("tessera: ", name_, ": no state; expected the one that init(params) gave"));
    if (!self_->owns(*state.self_))
      throw unsupported_error(detail::concat("tessera: ", name_, ": the state is of '", state.optimizer_,
                                             "'; expected the one that its own init(params) gave"));
    detail::check_state_of(state.blocks_, params);
    detail::check_same_blocks(params, "parameters", others, all);
    detail::check_memory(params, "parameter");
    detail::check_memory(others, one);
    if (state.fits_ != self_) check_kept(state, init(params));
  }
  void check_kept(State& state, const State& own) const {
    const auto& its = state.kept_;
    const auto& expected = own.kept_;
    const auto [at, there] = std::mismatch(its.begin(), its.end(), expected.begin(), expected.end());
    if (at != its.end() || there != expected.end())
      throw unsupported_error(detail::concat("tessera: ", name_, ": the state is for other hyper-parameters: it keeps ",
                                             at == its.end() ? "no more" : at->text(), "; expected ",
                                             there == expected.end() ? "no more" : there->text(),
                                             ", as its own init(params) gives"));
    state.fits_ = self_;
  }

  std::string name_;
  std::shared_ptr<const Base> self_;
};

}  // namespace tessera::inline TESSERA_ABI::optim
