/// L-BFGS: as a minimiser with line search, and as a link.
#pragma once

#include <string_view>
#include <vector>

#include <tessera/optim/second_order/lbfgs_memory.hpp>
#include <tessera/optim/second_order/wolfe.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// It ends where the largest entry of the gradient is at most `tolerance`.
struct LbfgsOptions {
  Index memory = 10;
  Index max_iterations = 1000;
  double tolerance = 1e-6;
  WolfeOptions wolfe{};
};

enum class LbfgsEnd { gradient, iterations, line_search, not_finite };
inline std::string_view text_of(LbfgsEnd end) {
  constexpr std::string_view texts[] = {"the gradient is small", "all iterations are done",
                                        "no step was found that falls enough", "the value or gradient is not finite"};
  return texts[static_cast<std::size_t>(end)];
}

/// How a run ended; `largest` is that of the gradient's entries.
struct LbfgsStatus {
  LbfgsEnd end = LbfgsEnd::iterations;
  Index iterations = 0, evaluations = 0;
  double value = 0, largest = 0;
  bool converged() const { return end == LbfgsEnd::gradient; }
};

/// Minimises f from where params are: p = -H g, then a strong Wolfe step along it, the first of length 1 at most.
/// D. Liu, J. Nocedal, "On the limited memory BFGS method for large scale optimization" (1989). An iteration is one
/// evaluation, as a rule, and 2·memory + 6 passes over vectors. Where no step falls enough the memory is dropped once.
struct Lbfgs {
  LbfgsOptions options;

  template <class T>
  struct State : detail::ListedState<State<T>> {
    std::vector<ParameterInfo> blocks;
    LbfgsMemory<T> memory;
    State(const Parameters<T>& params, Index pairs)
        : blocks(params.begin(), params.end()), memory(detail::total_size(params), pairs) {}
    template <class F>
    void list_buffers(const std::string& prefix, F&& f) {
      memory.list_buffers(prefix, f);
    }
  };
  /// Throws unsupported_error unless memory >= 1.
  template <class T>
  State<T> init(const Parameters<T>& params) const {
    if (options.memory < 1)
      throw unsupported_error(detail::concat("tessera: lbfgs: memory ", options.memory, "; expected at least 1"));
    return State<T>(params, options.memory);
  }

  /// `f(params, grads)` returns the value at params and writes the gradients. Params end at the best point found.
  template <class T, class F>
  LbfgsStatus minimize(Context& ctx, F&& f, State<T>& state, const Parameters<T>& params) const {
    detail::check_state_of(state.blocks, params);
    const Index d = detail::total_size(params);
    Buffer<T> all(5 * d);
    const auto vector = [&](Index i) { return VectorView<T>(all.data() + i * d, d); };
    const auto read = [](VectorView<T> x) { return VectorView<const T>(x); };
    const VectorView<T> x = vector(0), g = vector(1), p = vector(2), x0 = vector(3), g0 = vector(4);
    const Parameters<T> grads = detail::over(state.blocks, g);
    LbfgsStatus status;
    const auto evaluate = [&] {
      T* from = x.data();
      for (const auto& block : params) {
        std::copy_n(from, block.size(), block.data);
        from += block.size();
      }
      ++status.evaluations;
      return static_cast<double>(f(params, grads));
    };
    detail::gather(params, x);
    status.value = evaluate();
    bool fresh = state.memory.size() == 0;
    while (true) {
      status.largest = 0;
      bool finite = std::isfinite(status.value);
      for (Index i = 0; i < d; ++i) {
        finite = finite && std::isfinite(g[i]);
        status.largest = std::max(status.largest, std::abs(static_cast<double>(g[i])));
      }
      status.end = !finite                               ? LbfgsEnd::not_finite
                   : status.largest <= options.tolerance ? LbfgsEnd::gradient
                                                         : LbfgsEnd::iterations;
      if (status.end != LbfgsEnd::iterations || status.iterations >= options.max_iterations) return status;
      detail::copy_to(read(g), p.data());
      state.memory.apply(ctx, p);
      detail::scale_in_place(ctx, -1, p);
      const double slope = detail::dot(ctx, read(g), read(p));
      detail::copy_to(read(x), x0.data());
      detail::copy_to(read(g), g0.data());
      const auto phi = [&](double step) {
        detail::copy_to(read(x0), x.data());
        detail::blend(ctx, 1, x, step, read(p));
        const double value = evaluate();
        return std::pair(value, detail::dot(ctx, read(g), read(p)));
      };
      const double first = fresh ? std::min(1.0, 1 / std::sqrt(-slope)) : 1;
      WolfeOptions wolfe = options.wolfe;
      wolfe.rounding = std::max(wolfe.rounding, 4 * static_cast<double>(std::numeric_limits<T>::epsilon()));
      const WolfeResult found = strong_wolfe(phi, status.value, slope, first, wolfe);
      ++status.iterations;
      if (!found.success) {
        status.value = phi(found.best.step).first;
        if (found.best.step == 0) {
          if (fresh) {
            status.end = LbfgsEnd::line_search;
            return status;
          }
          state.memory.clear();
          fresh = true;
          continue;
        }
      } else {
        status.value = found.best.value;
      }
      detail::blend(ctx, -1, x0, 1, read(x));
      detail::blend(ctx, -1, g0, 1, read(g));
      state.memory.push(ctx, read(x0), read(g0));
      fresh = false;
    }
  }
};
inline Lbfgs lbfgs(LbfgsOptions options = {}) { return {options}; }

}  // namespace tessera::inline TESSERA_ABI::optim
