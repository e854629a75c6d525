/// Operands of the tests of gemm's epilogues.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <tessera/core/rng.hpp>
#include <tessera/kernels/gemm/epilogue.hpp>

namespace tessera::test {

enum class Order { rows, columns, spread };

/// Small integers, so that sums are exact in any order.
template <class T>
struct Numbers {
  Buffer<T> memory;
  MatrixView<T> view;
  Numbers(Index rows, Index cols, std::uint64_t seed, Order order = Order::rows, int from = -3, int to = 3) {
    const Index step = order == Order::spread ? 2 : 1, line = (order == Order::columns ? rows : cols) * step + 3;
    memory = Buffer<T>((order == Order::columns ? cols : rows) * line + 1);
    view = order == Order::columns ? MatrixView<T>(memory.data() + 1, {rows, cols}, {1, line})
                                   : MatrixView<T>(memory.data() + 1, {rows, cols}, {line, step});
    const Philox draws(seed);
    for (Index i = 0; i < memory.size(); ++i)
      memory[i] = static_cast<T>(
          from + static_cast<int>(draws.uniform(static_cast<std::uint64_t>(i)) * static_cast<float>(to - from + 1)));
  }
  Numbers(const Numbers& other)
      : memory(other.memory), view(memory.data() + 1, other.view.extents(), other.view.strides()) {}
  MatrixView<const T> get() const { return view; }
};

template <class T>
VectorView<const T> vector_of(const Numbers<T>& x) {
  return x.view.row(0);
}

/// Each kernel that this processor has, forced; and none.
template <class TA, class TB, class T, class F>
void for_each_kernel(F&& f) {
  for (const auto& kernel : GemmKernels<TA, TB, T>::template entries<GemmArgs<TA, TB, T>>()) {
    if (!active_isa().has(kernel.isa)) continue;
    SCOPED_TRACE(std::string(kernel.name));
    for (const Index threads : {1, 2}) {
      Context ctx = Context::with_threads(threads);
      ctx.force(kernel.name);
      f(ctx);
    }
  }
  Context ctx;
  f(ctx);
}

}  // namespace tessera::test
