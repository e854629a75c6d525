/// Fused elementwise maps: one pass over memory whatever the expression.
#pragma once

#include <type_traits>

#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kernels/map/list.hpp>
#include <tessera/simd/math.hpp>

namespace tessera::inline TESSERA_ABI {

/// Calls `f(v0, v1, …)` with one vector (simd/pack.hpp) of each view until all elements are done, and writes back those
/// of views that are not const: `map(ctx, [](auto& y, const auto& x) { y = x * sigmoid(x); }, y, x)`. Constants convert
/// from the element type; where a type is wanted, `using V = std::remove_cvref_t<decltype(x)>`. `f` treats every lane
/// alike, may get vectors of any width (1 among them), is called by several threads at once and throws nothing;
/// functions that it hands vectors to should be TESSERA_FLAT (clang does not inline them otherwise).
/// Views (n): 1 to 8 of one length and element type, float or double, any stride; two of them may name the very same
/// elements, not overlap otherwise. Throws shape_error when lengths differ. O(n), no allocation.
template <class F, class T, class... Rest>
void map(Context& ctx, F&& f, VectorView<T> first, VectorView<Rest>... rest) {
  using S = std::remove_const_t<T>;
  static_assert(sizeof...(Rest) < 8, "tessera: map takes 1 to 8 views");
  static_assert((std::is_same_v<S, std::remove_const_t<Rest>> && ...), "tessera: map's views have one element type");
  static_assert(std::is_same_v<S, float> || std::is_same_v<S, double>, "tessera: map takes float or double views");
  const Index n = first.extent(0);
  int at = 1;
  [[maybe_unused]] const auto check = [&](Index length) {
    if (length != n)
      throw shape_error(detail::concat("tessera: map: view 0 has ", n, " elements, view ", at, " has ", length));
    ++at;
  };
  (check(rest.extent(0)), ...);
  const MapArgs<std::remove_reference_t<F>, T, Rest...> args{
      {}, &f, {const_cast<S*>(first.data()), const_cast<S*>(rest.data())...}, {first.stride(0), rest.stride(0)...}};
  constexpr Index grain = Index{1} << 15;
  launch(ctx, MapKernels::select(ctx, args), args, n, grain);
}

namespace detail {
template <class F, class... E>
class RepeatedMap {
 public:
  RepeatedMap(const Context& ctx, F& f) {
    args_.f = &f;
    args_.stride.fill(1);
    const auto& kernel = MapKernels::select(ctx, args_);
    run_ = kernel.run;
    isa_ = kernel.isa;
  }
  Isa isa() const { return isa_; }
  void operator()(Index n, E*... data) {
    args_.data = {const_cast<std::remove_const_t<E>*>(data)...};
    run_(args_, {0, n, 0});
  }

 private:
  MapArgs<F, E...> args_;
  void (*run_)(const MapArgs<F, E...>&, RowRange) noexcept;
  Isa isa_;
};
}  // namespace detail

/// A map whose kernel is chosen once for many short runs of contiguous elements: `run(n, pointers…)`, of the types of
/// these, const where only read. `f` is pointed to.
template <class F, class... E>
detail::RepeatedMap<F, E...> repeated_map(const Context& ctx, F& f, E*...) {
  return {ctx, f};
}

}  // namespace tessera::inline TESSERA_ABI
