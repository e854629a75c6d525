/// Hyper-parameters that are read and changed while running.
#pragma once

#include <concepts>
#include <cstddef>
#include <functional>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <tessera/optim/nested.hpp>
#include <tessera/optim/schedules.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// A name with a number, which the caller may change, or a schedule, which decides alone.
struct HyperParameter {
  std::string name;
  double value = 0;
  std::function<double(Index)> schedule;

  HyperParameter(std::string name_, double value_) : name(std::move(name_)), value(value_) {}
  template <Schedule S>
  HyperParameter(std::string name_, S schedule_)
      : name(std::move(name_)), value(schedule_(Index{0})), schedule(std::move(schedule_)) {}
};

/// What the hyper-parameters are now.
class HyperValues {
 public:
  explicit HyperValues(std::vector<HyperParameter> all) : all_(std::move(all)) {
    for (std::size_t i = 0; i < all_.size(); ++i)
      for (std::size_t j = 0; j < i; ++j)
        if (all_[i].name == all_[j].name)
          throw unsupported_error(detail::concat("tessera: two hyper-parameters have the name '", all_[i].name,
                                                 "'; expected different ones"));
  }

  /// Throws unsupported_error when there is no such name.
  double operator[](std::string_view name) const { return all_[find(name)].value; }

  /// From the next update on. Throws unsupported_error when there is no such name or it follows a schedule.
  void set(std::string_view name, double value) {
    auto& one = all_[find(name)];
    if (one.schedule)
      throw unsupported_error(detail::concat("tessera: hyper-parameter '", name, "' set to ", value,
                                             ", but it follows a schedule; expected one given as a number"));
    one.value = value;
  }

  void follow_schedules(Index count) {
    for (auto& one : all_)
      if (one.schedule) one.value = one.schedule(count);
  }
  template <class F>
  void list_buffers(const std::string& prefix, F& f) {
    for (auto& one : all_) detail::list_value(f, prefix + one.name, one.value);
  }

 private:
  std::size_t find(std::string_view name) const {
    std::string names;
    for (std::size_t i = 0; i < all_.size(); ++i) {
      if (all_[i].name == name) return i;
      names += (i == 0 ? "" : ", ") + all_[i].name;
    }
    throw unsupported_error(detail::concat("tessera: no hyper-parameter '", name, "'; there are: ", names));
  }

  std::vector<HyperParameter> all_;
};

/// The optimizer that `make(values)` gives, made anew at each step (links are a few numbers) of what the values are
/// then (optax.inject_hyperparams). They stand in the state: `state.hyper["rate"]`, `state.hyper.set("rate", 1e-4)`.
template <class Make>
struct InjectHyperparams {
  static constexpr std::string_view name = "inject_hyperparams";
  Make make;
  std::vector<HyperParameter> defaults;
  using Inner = detail::optimizer_t<std::invoke_result_t<const Make&, const HyperValues&>>;

  template <class T>
  struct State : detail::ListedState<State<T>> {
    Index count = 0;
    HyperValues hyper;
    detail::inner_state_t<Inner, T> inner;

    State(HyperValues values, detail::inner_state_t<Inner, T> state)
        : hyper(std::move(values)), inner(std::move(state)) {}
    template <class F>
    void list_buffers(const std::string& prefix, F&& f) {
      detail::list_value(f, prefix + "steps", count);
      hyper.list_buffers(prefix + "hyper.", f);
      inner.list_buffers(prefix, f);
    }
  };

  template <class T>
  State<T> init(const Parameters<T>& params) const {
    HyperValues values(defaults);
    auto inner = now(values).init(params);
    return State<T>(std::move(values), std::move(inner));
  }
  template <class T>
  void update(Context& ctx, const Parameters<T>& grads, State<T>& state, const Parameters<T>& params) const {
    state.hyper.follow_schedules(state.count);
    now(state.hyper).update(ctx, grads, state.inner, params);
    ++state.count;
  }
  template <class T>
  void transform(Context& ctx, std::span<const VectorView<T>> updates, State<T>& state,
                 const Parameters<T>& params) const {
    state.hyper.follow_schedules(state.count);
    now(state.hyper).transform(ctx, updates, state.inner, params);
    ++state.count;
  }

 private:
  Inner now(const HyperValues& values) const { return detail::as_optimizer(make(values)); }
};

/// `inject_hyperparams([](const HyperValues& h) { return adamw(h["rate"], {}, h["decay"]); },
///                     {{"rate", warmup_cosine{…}}, {"decay", 0.1}})`
template <class Make>
InjectHyperparams<Make> inject_hyperparams(Make make, std::initializer_list<HyperParameter> defaults) {
  return {std::move(make), defaults};
}

}  // namespace tessera::inline TESSERA_ABI::optim
