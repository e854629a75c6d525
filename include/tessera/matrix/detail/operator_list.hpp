/// What matrices made of a list of operators share: blocks of a stack or a diagonal, terms of a sum.
#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include <tessera/expr/expr.hpp>

namespace tessera::inline TESSERA_ABI::detail {

/// a + b of sizes. Throws shape_error where that does not fit.
inline Index added_sizes(Index a, Index b) {
  Index sum = 0;
  if (__builtin_add_overflow(a, b, &sum))
    throw shape_error(concat("tessera: sizes ", a, " + ", b, ": expected a sum that fits"));
  return sum;
}

/// The operators and what adds up over them. Parameters: theirs in order.
template <class Derived, LinearOperator A>
class OperatorList : public OperatorBase<Derived> {
 public:
  using Scalar = scalar_of<A>;

  template <class F>
  void for_each_buffer(F&& f) const {
    for (const A& a : items_) a.for_each_buffer(f);
  }
  std::size_t bytes() const {
    return total(std::size_t{0}, [](const A& a) { return tessera::bytes(a); });
  }
  double flops(Index n) const {
    return total(0.0, [n](const A& a) { return tessera::flops(a, n); });
  }
  bool knows(Form form) const {
    return std::all_of(items_.begin(), items_.end(), [form](const A& a) { return tessera::knows(a, form); });
  }
  Index parameter_count() const requires Trainable<A> {
    return total(Index{0}, [](const A& a) { return a.parameter_count(); });
  }

 protected:
  OperatorList() = default;
  explicit OperatorList(std::vector<A> items) : items_(std::move(items)) {}
  A& item(Index i) { return items_[static_cast<std::size_t>(i)]; }

  std::vector<A> items_;

 private:
  template <class T, class F>
  T total(T sum, F&& f) const {
    for (const A& a : items_) sum += f(a);
    return sum;
  }
};

}  // namespace tessera::inline TESSERA_ABI::detail
