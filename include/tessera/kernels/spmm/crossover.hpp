/// From which share of zeros on products with compressed rows are faster than dense ones: rates that were measured, and
/// what follows from them. Nothing here is asked by a product; explain() says what it says, and who asks gets a dense
/// matrix (sparse/densify.hpp).
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstdio>
#include <mutex>
#include <string>
#include <utility>

#include <tessera/core/error.hpp>
#include <tessera/core/op.hpp>
#include <tessera/core/types.hpp>
#include <tessera/simd/cache.hpp>
#include <tessera/simd/isa.hpp>

namespace tessera::inline TESSERA_ABI {

/// GFLOP/s of one core with `columns` columns of X: of the dense product, all entries counted, and of compressed rows,
/// nonzeros counted, where half of the entries are none and where a tenth is.
struct SpmmRates {
  double columns = 1, dense = 0, half = 0, tenth = 0;
};

/// Rates from few to many columns, of matrices whose dense form stays in the last cache (1024 x 1024) or does not
/// (4096 x 4096); of products with A and with its transpose.
struct SpmmCosts {
  static constexpr int count = 5;
  using Table = std::array<SpmmRates, count>;
  std::string source;  // "measured on ..."
  std::array<Table, 2> cached, streamed;

  /// Throws unsupported_error unless all rates are positive, columns rise, and fewer nonzeros take less time.
  void check() const {
    for (const auto* tables : {&cached, &streamed})
      for (const Table& table : *tables)
        for (std::size_t k = 0; k < table.size(); ++k) {
          const SpmmRates& r = table[k];
          if (!(r.columns >= 1 && r.dense > 0 && r.half > 0 && r.tenth > 0 &&
                std::isfinite(r.dense + r.half + r.tenth) && r.half < 5 * r.tenth &&
                (k == 0 || r.columns > table[k - 1].columns)))
            throw unsupported_error(detail::concat(
                "tessera: SpmmCosts: rates of ", r.columns, " columns are ", r.dense, ", ", r.half, ", ", r.tenth,
                "; expected rising columns, positive GFLOP/s, and less than 5 times the tenth's at half"));
        }
  }
};

/// What is expected of one product.
struct SpmmOutlook {
  double zeros = 0;              // share of A's entries that are not stored
  double columns = 0;            // of X
  double crossover = 0;          // dense is faster where fewer zeros are than this
  double dense = 0, sparse = 0;  // GFLOP/s, nonzeros counted for the latter
  double speedup = 0;            // of dense over sparse
  bool dense_is_faster() const { return speedup > 1; }

  /// "1.4 times as fast for 27% zeros and 64 columns: below 47% zeros (80 GFLOP/s, nonzeros 33)"
  std::string text() const {
    char line[160];
    const bool faster = dense_is_faster();
    std::snprintf(
        line, sizeof line,
        "%.3g times %s for %.4g%% zeros and %.0f column%s: faster below %.2g%% zeros (%.3g GFLOP/s, nonzeros %.3g)",
        faster ? speedup : 1 / std::max(speedup, 1e-9), faster ? "as fast" : "slower", 100 * zeros, columns,
        columns == 1 ? "" : "s", 100 * crossover, dense, sparse);
    return line;
  }
};

namespace detail {

/// At `density` between a half and a tenth as a power of it, beyond as at the nearer.
inline double sparse_rate(const SpmmRates& r, double density) {
  const double at = std::clamp(std::log(2 * density) / std::log(0.2), 0.0, 1.0);
  return r.half * std::pow(r.tenth / r.half, at);
}
/// Between two rows by the logarithm of columns, beyond the last as it.
inline SpmmRates rates_at(const SpmmCosts::Table& table, double columns) {
  std::size_t k = 1;
  while (k + 1 < table.size() && table[k].columns < columns) ++k;
  const SpmmRates &a = table[k - 1], &b = table[k];
  const double at = std::clamp(std::log(columns / a.columns) / std::log(b.columns / a.columns), 0.0, 1.0);
  const auto between = [at](double x, double y) { return x * std::pow(y / x, at); };
  return {columns, between(a.dense, b.dense), between(a.half, b.half), between(a.tenth, b.tenth)};
}

/// Best of two runs beside compilers, processor time, columns contiguous. f64 without AVX2 is taken for half of f32
/// (0.3 to 0.95 where measured).
template <class S>
SpmmCosts measured_costs(IsaSet isa) {
  if (isa.has(Isa::avx512)) {
    if constexpr (sizeof(S) == 8)
      return {"Zen 4, AVX-512",
              {{{{{1, 20, 5.8, 5.4}, {4, 28, 12, 11}, {16, 55, 28, 25}, {64, 43, 30, 27}, {256, 51, 28, 24}}},
                {{{1, 21, 4.5, 5}, {4, 31, 5.5, 5.4}, {16, 54, 14, 13}, {64, 55, 13, 12}, {256, 46, 13, 12}}}}},
              {{{{{1, 7.3, 2.1, 1.8}, {4, 14, 6.3, 5.5}, {16, 50, 20, 17}, {64, 37, 32, 22}, {256, 47, 30, 16}}},
                {{{1, 6.4, 2, 1.7}, {4, 9.3, 4.5, 4.6}, {16, 24, 13, 11}, {64, 41, 12, 11}, {256, 46, 12, 11}}}}}};
    else
      return {"Zen 4, AVX-512",
              {{{{{1, 44, 7.7, 6.8}, {4, 92, 12, 11}, {16, 110, 47, 40}, {64, 95, 63, 56}, {256, 99, 59, 53}}},
                {{{1, 39, 4.8, 4.8}, {4, 66, 5.8, 5.3}, {16, 110, 22, 18}, {64, 110, 27, 20}, {256, 99, 27, 20}}}}},
              {{{{{1, 14, 4.4, 6.9}, {4, 37, 7.9, 7.8}, {16, 89, 30, 35}, {64, 79, 58, 47}, {256, 96, 63, 44}}},
                {{{1, 13, 2.8, 4.2}, {4, 21, 5.2, 5.1}, {16, 53, 21, 19}, {64, 100, 26, 23}, {256, 97, 26, 22}}}}}};
  }
  if (!isa.has(Isa::avx2)) {
    SpmmCosts c{
        "Zen 3, SSE2",
        {{{{{1, 26, 4.4, 4.1}, {4, 6.5, 13, 10}, {16, 15, 21, 19}, {64, 18, 18, 14}, {256, 21, 11, 18}}},
          {{{1, 25, 2.8, 2.6}, {4, 9.4, 5.2, 5}, {16, 13, 11, 10}, {64, 18, 11, 10}, {256, 20, 9.3, 7.4}}}}},
        {{{{{1, 10, 3.3, 3.7}, {4, 4.2, 6.2, 11}, {16, 9.8, 16, 16}, {64, 17, 19, 13}, {256, 21, 15, 10}}},
          {{{1, 8.2, 1.7, 1.6}, {4, 6.2, 5.2, 4.8}, {16, 13, 7.1, 8.8}, {64, 16, 9, 8.3}, {256, 20, 8.6, 7.8}}}}}};
    for (auto* tables : {&c.cached, &c.streamed})
      for (auto& table : *tables)
        for (auto& r : table) {
          const double share = sizeof(S) == 8 ? 0.5 : 1;
          r = {r.columns, share * r.dense, share * r.half, share * r.tenth};
        }
    return c;
  }
  if constexpr (sizeof(S) == 8)
    return {"Zen 3, AVX2",
            {{{{{1, 16, 4.2, 4}, {4, 30, 13, 11}, {16, 28, 20, 19}, {64, 36, 16, 18}, {256, 41, 17, 16}}},
              {{{1, 17, 2.4, 2.3}, {4, 24, 4.7, 4.7}, {16, 26, 11, 9.3}, {64, 35, 11, 9.5}, {256, 42, 10, 9.2}}}}},
            {{{{{1, 6.1, 2.3, 2.4}, {4, 17, 5.6, 8.7}, {16, 13, 15, 11}, {64, 26, 20, 8.3}, {256, 36, 16, 9.5}}},
              {{{1, 5.4, 2.1, 2}, {4, 6.6, 4.5, 4.2}, {16, 16, 8.2, 8.1}, {64, 30, 7.2, 6.7}, {256, 33, 7.3, 6.4}}}}}};
  else
    return {"Zen 3, AVX2",
            {{{{{1, 27, 4.5, 4.2}, {4, 32, 14, 11}, {16, 88, 37, 30}, {64, 80, 34, 34}, {256, 86, 36, 32}}},
              {{{1, 33, 2.4, 2.3}, {4, 50, 5.1, 4.8}, {16, 52, 15, 13}, {64, 62, 19, 14}, {256, 81, 17, 14}}}}},
            {{{{{1, 13, 3.8, 3.7}, {4, 31, 7.2, 11}, {16, 83, 23, 30}, {64, 60, 35, 29}, {256, 72, 42, 18}}},
              {{{1, 11, 2.3, 2.2}, {4, 14, 4.8, 4.7}, {16, 42, 16, 14}, {64, 62, 12, 14}, {256, 70, 16, 15}}}}}};
}
template <class S>
struct SpmmCostsInUse {
  std::mutex access;
  SpmmCosts costs = measured_costs<S>(active_isa());
  static SpmmCostsInUse& get() {
    static SpmmCostsInUse all;
    return all;
  }
};

}  // namespace detail

/// The rates that outlooks are made of: those of one core of a Zen 4 where the processor has AVX-512, else of a Zen 3,
/// by AVX2 or not, until others are set. tune/spmm.hpp measures this machine's.
template <std::floating_point S>
SpmmCosts spmm_costs() {
  auto& all = detail::SpmmCostsInUse<S>::get();
  const std::lock_guard lock(all.access);
  return all.costs;
}
/// For all threads from now on. Throws unsupported_error as SpmmCosts::check.
template <std::floating_point S>
void set_spmm_costs(SpmmCosts costs) {
  costs.check();
  auto& all = detail::SpmmCostsInUse<S>::get();
  const std::lock_guard lock(all.access);
  all.costs = std::move(costs);
}

/// Of op(A) X, A (rows,cols) with `nonzeros`, X with `columns` columns. Rows of a few nonzeros are slower than these
/// rates say, as are matrices of less than some hundred rows. O(1).
template <std::floating_point S>
SpmmOutlook spmm_outlook(const SpmmCosts& costs, Op op, Index rows, Index cols, Index nonzeros, Index columns) {
  SpmmOutlook out;
  const double entries = static_cast<double>(rows) * static_cast<double>(cols);
  out.columns = static_cast<double>(columns);
  if (!(entries > 0) || columns <= 0) return out;
  const bool cached = entries * sizeof(S) <= static_cast<double>(cache_sizes().l3);
  const auto rates =
      detail::rates_at((cached ? costs.cached : costs.streamed)[op == Op::none ? 0 : 1], static_cast<double>(columns));
  const double density = std::clamp(static_cast<double>(nonzeros) / entries, 0.0, 1.0);
  out.zeros = 1 - density;
  out.dense = rates.dense;
  out.sparse = detail::sparse_rate(rates, density);
  out.speedup = density * out.dense / out.sparse;
  double low = 0, high = 1;  // density / sparse_rate rises with density
  for (int step = 0; step < 40; ++step) {
    const double middle = 0.5 * (low + high);
    (middle * rates.dense > detail::sparse_rate(rates, middle) ? high : low) = middle;
  }
  out.crossover = rates.dense > detail::sparse_rate(rates, 1.0) ? 1 - high : 0;
  return out;
}

}  // namespace tessera::inline TESSERA_ABI
