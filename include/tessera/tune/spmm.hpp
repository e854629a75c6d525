/// This machine's rates of sparse and dense products, for spmm_outlook, explain() and densify_if_faster.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <utility>

#include <tessera/core/buffer.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/kernels/spmm/crossover.hpp>
#include <tessera/kernels/spmm/spmm.hpp>
#include <tessera/simd/roof.hpp>

namespace tessera::inline TESSERA_ABI {

struct SpmmTuneOptions {
  Index cached = 1024, streamed = 4096;  // rows and columns of the matrices
  double seconds = 0.05;                 // of each of the 60 measurements, at least two calls
};

namespace detail {

/// (n,n) of ones, each place an entry with probability `density`.
template <class S>
struct RandomRows {
  Buffer<std::int32_t> row_ptr, col_idx;
  Buffer<S> values;
  RandomRows(Index n, double density) : row_ptr(n + 1) {
    const Philox draws(7);
    const auto kept = [&](Index p) {
      return static_cast<double>(draws.uniform(static_cast<std::uint64_t>(p))) < density;
    };
    for (Index i = 0; i < n; ++i) {
      row_ptr[i + 1] = row_ptr[i];
      for (Index j = 0; j < n; ++j) row_ptr[i + 1] += kept(i * n + j) ? 1 : 0;
    }
    col_idx = Buffer<std::int32_t>(row_ptr[n], uninitialized);
    values = Buffer<S>(row_ptr[n], uninitialized);
    std::fill(values.begin(), values.end(), S(1));
    for (Index i = 0, e = 0; i < n; ++i)
      for (Index j = 0; j < n; ++j)
        if (kept(i * n + j)) col_idx[e++] = static_cast<std::int32_t>(j);
  }
};

/// The least time of a call.
template <class F>
double least_seconds(double budget, F&& f) {
  f();
  double best = 0, spent = 0;
  for (int calls = 0; calls < 2 || (spent < budget && calls < 1000); ++calls) {
    const double start = roof::seconds();
    f();
    const double took = std::max(1e-9, roof::seconds() - start);
    best = calls == 0 ? took : std::min(best, took);
    spent += took;
  }
  return best;
}

}  // namespace detail

/// Rates for 1, 4, 16, 64 and 256 columns that are contiguous. About ten seconds and 200 MB with f32 and these options;
/// set_spmm_costs makes them count. Throws unsupported_error unless sizes are from 16 to 2^15.
template <std::floating_point S>
SpmmCosts measure_spmm_costs(Context& ctx, const SpmmTuneOptions& options = {}) {
  SpmmCosts costs{"measured here", {}, {}};
  for (const bool cached : {true, false}) {
    const Index n = cached ? options.cached : options.streamed;
    if (n < 16 || n > (Index{1} << 15))
      throw unsupported_error(
          detail::concat("tessera: measure_spmm_costs of matrices of ", n, " rows; expected 16 to 32768"));
    constexpr Index widths[SpmmCosts::count] = {1, 4, 16, 64, 256};
    const detail::RandomRows<S> half(n, 0.5), tenth(n, 0.1);
    Buffer<S> dense(n * n), x(n * widths[SpmmCosts::count - 1]), y(x.size());
    std::fill(dense.begin(), dense.end(), S(0.25));
    std::fill(x.begin(), x.end(), S(0.5));
    for (const Op op : {Op::none, Op::transpose})
      for (std::size_t k = 0; k < SpmmCosts::count; ++k) {
        const Index columns = widths[k];
        const MatrixView<const S> W(dense.data(), n, n), X(x.data(), {n, columns}, {1, n});
        const MatrixView<S> Y(y.data(), {n, columns}, {1, n});
        const auto rate = [&](double entries, auto&& product) {
          return 2e-9 * entries * static_cast<double>(columns) / detail::least_seconds(options.seconds, product);
        };
        const auto sparse = [&](const detail::RandomRows<S>& A) {
          return rate(static_cast<double>(A.values.size()), [&] {
            spmm(ctx, SpmmArgs<S, std::int32_t>{
                          {}, op, n, n, A.row_ptr.data(), A.col_idx.data(), A.values.data(), S(1), S(0), X, Y});
          });
        };
        auto& row = (cached ? costs.cached : costs.streamed)[op == Op::none ? 0 : 1][k];
        row.columns = static_cast<double>(columns);
        row.dense = rate(static_cast<double>(n) * static_cast<double>(n),
                         [&] { gemm<S>(ctx, S(1), op == Op::none ? W : W.transposed(), X, S(0), Y); });
        row.half = sparse(half);
        row.tenth = std::max(sparse(tenth), 0.21 * row.half);
      }
  }
  return costs;
}

}  // namespace tessera::inline TESSERA_ABI
