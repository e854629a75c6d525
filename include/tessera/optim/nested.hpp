/// What wrappers of optimizers share. An optimizer has
///   init(params) → state       state.for_each_buffer(f(name, span)), state.state_bytes()
///   update(ctx, grads, state, params)                params move
///   transform(ctx, updates, state, params)           updates become the change, params stay
/// A chain is one, and so are most wrappers; those with a `transform` are links of other chains too.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <tessera/optim/chain.hpp>

namespace tessera::inline TESSERA_ABI::optim {

template <class O, class T>
concept OptimizerOf = requires(const O& opt, Context& ctx, const Parameters<T>& params) {
  { opt.init(params) } -> std::movable;
  opt.update(ctx, params, *std::declval<decltype(opt.init(params))*>(), params);
};
template <class O>
concept Optimizer = OptimizerOf<O, float> || OptimizerOf<O, double>;

namespace detail {

/// A link alone as a chain; chains and wrappers as they are.
template <class O>
auto as_optimizer(const O& opt) {
  if constexpr (Optimizer<O>)
    return opt;
  else
    return chain(opt);
}
template <class O>
using optimizer_t = decltype(as_optimizer(std::declval<const O&>()));

template <class O, class T>
using inner_state_t = decltype(std::declval<const O&>().init(std::declval<const Parameters<T>&>()));

/// Gives a state with `list_buffers(prefix, f)` what callers use.
template <class Self>
struct ListedState {
  /// `f(name, span)` for everything a checkpoint needs, counts among it; `f` takes spans of the parameters' type,
  /// Index, std::uint64_t and double.
  template <class F>
  void for_each_buffer(F&& f) {
    static_cast<Self&>(*this).list_buffers(std::string(), f);
  }
  std::size_t state_bytes() {
    std::size_t total = 0;
    for_each_buffer([&](const std::string&, auto values) { total += values.size_bytes(); });
    return total;
  }
};

template <class F, class V>
void list_value(F& f, const std::string& name, V& value) {
  f(name, std::span<V>(&value, 1));
}

/// What wrappers remember that are links and keep nothing to save beside the inner state.
template <class Inner, class T>
struct InnerState {
  inner_state_t<Inner, T> inner;
  template <class F>
  void list_buffers(const std::string& prefix, F&& f) {
    inner.list_buffers(prefix, f);
  }
};
/// And of those that count.
template <class Inner, class T>
struct CountedState : ListedState<CountedState<Inner, T>>, InnerState<Inner, T> {
  const char* what;
  Index count = 0;
  CountedState(const char* counted, inner_state_t<Inner, T> state)
      : InnerState<Inner, T>{std::move(state)}, what(counted) {}
  template <class F>
  void list_buffers(const std::string& prefix, F&& f) {
    list_value(f, prefix + what, count);
    this->inner.list_buffers(prefix, f);
  }
};

/// One buffer a block.
template <class T>
std::vector<Buffer<T>> buffers_like(const Parameters<T>& params) {
  std::vector<Buffer<T>> all;
  for (const auto& block : params) all.emplace_back(block.size());
  return all;
}

/// Base of states that look at gradients before an inner optimizer does: the blocks that `init` saw.
struct SeenBlocks {
  std::vector<ParameterInfo> blocks;

  template <class T>
  explicit SeenBlocks(const Parameters<T>& params) : blocks(params.begin(), params.end()) {}
  /// Throws shape_error unless these are the blocks that `init` saw, with memory.
  template <class T>
  void check(const Parameters<T>& params) const {
    check_state_of(blocks, params);
    check_memory(params, "parameter");
  }
  template <class T>
  void check(const Parameters<T>& params, const Parameters<T>& grads) const {
    check(params);
    check_same_blocks(params, "parameters", grads, "gradients");
    check_memory(grads, "gradient of");
  }
};

/// What wrappers remember that keep one number a parameter beside the inner optimizer's state.
template <class Self, class Inner, class T>
struct WrapperState : ListedState<Self>, SeenBlocks {
  std::vector<Buffer<T>> kept;  // zeros at first
  inner_state_t<Inner, T> inner;

  WrapperState(const Parameters<T>& params, const Inner& opt)
      : SeenBlocks(params), kept(buffers_like(params)), inner(opt.init(params)) {}
  VectorView<T> view(std::size_t b) { return {kept[b].data(), kept[b].size()}; }
  VectorView<const T> view(std::size_t b) const { return {kept[b].data(), kept[b].size()}; }
  void keep(const Parameters<T>& params) {
    check_memory(params, "parameter");
    for (std::size_t b = 0; b < params.size(); ++b) std::copy_n(params[b].data, params[b].size(), kept[b].data());
  }
  template <class F>
  void list_kept(const std::string& prefix, const char* what, F& f) {
    for (std::size_t b = 0; b < kept.size(); ++b) f(concat(prefix, what, '.', blocks[b].name), std::span<T>(kept[b]));
    inner.list_buffers(prefix, f);
  }
};

/// Gradients as links read them, and a copy that they may write to.
template <class T>
std::span<const VectorView<const T>> views_of(Workspace::Scope& scope, const Parameters<T>& blocks) {
  auto* views = scope.take<VectorView<const T>>(static_cast<Index>(blocks.size()));
  for (std::size_t b = 0; b < blocks.size(); ++b) views[b] = VectorView<const T>(blocks[b].view());
  return {views, blocks.size()};
}
template <class T>
std::span<const VectorView<T>> copies_of(Workspace::Scope& scope, const Parameters<T>& blocks) {
  auto* copies = scope.take<VectorView<T>>(static_cast<Index>(blocks.size()));
  for (std::size_t b = 0; b < blocks.size(); ++b) {
    copies[b] = VectorView<T>(scope.take<T>(blocks[b].size()), blocks[b].size());
    std::copy_n(blocks[b].data, blocks[b].size(), copies[b].data());
  }
  return {copies, blocks.size()};
}

/// Some of the blocks, by their numbers; `params` and `grads` are kept so that a step allocates nothing.
template <class T>
struct Part {
  std::vector<std::size_t> taken;
  Parameters<T> params, grads;

  Part(const Parameters<T>& all, std::vector<std::size_t> which) : taken(std::move(which)) {
    for (std::size_t b : taken) params.push_back(all[b]);
    grads = params;
  }
  /// Those that `mask(const ParameterInfo&)` takes.
  template <class Mask>
  static Part where(const Mask& mask, const Parameters<T>& all) {
    std::vector<std::size_t> which;
    for (std::size_t b = 0; b < all.size(); ++b)
      if (mask(all[b])) which.push_back(b);
    return Part(all, std::move(which));
  }
  static void point(const std::vector<std::size_t>& blocks, Parameters<T>& part, const Parameters<T>& all) {
    for (std::size_t i = 0; i < blocks.size(); ++i) part[i].data = all[blocks[i]].data;
  }
  const Parameters<T>& of_params(const Parameters<T>& all) {
    point(taken, params, all);
    return params;
  }
  const Parameters<T>& of_grads(const Parameters<T>& all) {
    point(taken, grads, all);
    return grads;
  }
  template <class Opt, class State>
  void transform(const Opt& opt, Context& ctx, std::span<const VectorView<T>> updates, State& state,
                 const Parameters<T>& all) {
    if (taken.empty()) return;
    Workspace::Scope scope(ctx.workspace);
    auto* some = scope.take<VectorView<T>>(static_cast<Index>(taken.size()));
    for (std::size_t i = 0; i < taken.size(); ++i) some[i] = updates[taken[i]];
    opt.transform(ctx, std::span<const VectorView<T>>(some, taken.size()), state, of_params(all));
  }
};

/// y ← a·y + b·x.
template <class T>
struct Blend {
  T a, b;
  template <class V>
  TESSERA_INLINE void operator()(V& y, const V& x) const {
    y = fma(V(b), x, V(a) * y);
  }
};
template <class T>
void blend(Context& ctx, double a, VectorView<T> y, double b, VectorView<const T> x) {
  map(ctx, Blend<T>{static_cast<T>(a), static_cast<T>(b)}, y, x);
}
template <class T>
void copy_to(VectorView<const T> from, T* to) {
  std::copy_n(from.data(), from.extent(0), to);
}

}  // namespace detail
}  // namespace tessera::inline TESSERA_ABI::optim
