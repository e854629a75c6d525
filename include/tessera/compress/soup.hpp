/// Averages of networks that were pruned to one pattern and retrained apart.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <span>
#include <utility>
#include <vector>

#include <tessera/compress/mask.hpp>

namespace tessera::inline TESSERA_ABI {

/// Σ weights[m]·models[m] of one pattern, of which the average has the same; uniform without weights. On the values
/// alone: O(models·nnz). M. Zimmer et al., "Sparse Model Soups: A Recipe for Improved Pruning via Model Averaging"
/// (ICLR 2024): one phase is prune, retrain m copies that share the mask with other seeds or settings, average; the
/// next begins from there. Throws shape_error for no model or other shapes, format_error for other patterns, whose
/// average would be denser.
template <std::floating_point T>
Csr<T> sparse_soup(std::span<const Csr<T>* const> models, std::span<const double> weights = {}) {
  if (models.empty() || (!weights.empty() && weights.size() != models.size()))
    throw shape_error(detail::concat("tessera: sparse_soup of ", models.size(), " models with ", weights.size(),
                                     " weights; expected a model at least, and as many weights or none"));
  Csr<T> soup = *models[0];
  std::vector<double> sum(soup.values().size());
  for (std::size_t m = 0; m < models.size(); ++m) {
    const Csr<T>& model = *models[m];
    if (model.rows() != soup.rows() || model.cols() != soup.cols())
      throw shape_error(detail::concat("tessera: sparse_soup of (Csr ", detail::shape_text(soup.rows(), soup.cols()),
                                       ") and (Csr ", detail::shape_text(model.rows(), model.cols()), ")"));
    if (!std::equal(soup.row_ptr().begin(), soup.row_ptr().end(), model.row_ptr().begin()) ||
        !std::equal(soup.col_idx().begin(), soup.col_idx().end(), model.col_idx().begin()))
      throw format_error(detail::concat("tessera: sparse_soup: model ", m, " (Csr ",
                                        detail::shape_text(model.rows(), model.cols()), ", ", model.nnz(),
                                        " entries) has another pattern than model 0; expected one mask"));
    const double weight = weights.empty() ? 1 / static_cast<double>(models.size()) : weights[m];
    for (std::size_t e = 0; e < sum.size(); ++e) sum[e] += weight * static_cast<double>(model.values()[e]);
  }
  for (std::size_t e = 0; e < sum.size(); ++e) soup.values()[e] = static_cast<T>(sum[e]);
  return soup;
}

/// A greedy soup: models by rising loss are taken in while loss(soup) does not rise. M. Wortsman et al. (2022). Returns
/// which were taken, in that order; models whose loss is NaN never are.
template <std::floating_point T, class Loss>
std::vector<std::size_t> greedy_soup(std::span<const Csr<T>* const> models, Loss&& loss) {
  std::vector<std::pair<double, std::size_t>> order;
  for (std::size_t m = 0; m < models.size(); ++m)
    if (const auto alone = static_cast<double>(loss(*models[m])); !std::isnan(alone)) order.emplace_back(alone, m);
  std::sort(order.begin(), order.end());
  std::vector<std::size_t> taken;
  std::vector<const Csr<T>*> held;
  double best = 0;
  for (const auto& [alone, m] : order) {
    held.push_back(models[m]);
    const double got = held.size() == 1 ? alone : static_cast<double>(loss(sparse_soup<T>(held)));
    if (held.size() == 1 || got <= best) {
      best = got;
      taken.push_back(m);
    } else {
      held.pop_back();
    }
  }
  return taken;
}

/// The `kept` entries of A of largest |value|: what iterative magnitude pruning does to a sparse weight between phases.
/// O(nnz). Throws unsupported_error for more than A has.
template <std::floating_point T>
Csr<T> prune_entries(const Csr<T>& A, Index kept) {
  if (kept < 0 || kept > A.nnz())
    throw unsupported_error(detail::concat("tessera: prune_entries of (Csr ", detail::shape_text(A.rows(), A.cols()),
                                           ", ", A.nnz(), " entries) to ", kept));
  const auto entries = detail::largest(detail::all_places(0, A.nnz()), kept,
                                       [&](Index e) { return std::abs(A.values()[static_cast<std::size_t>(e)]); });
  Buffer<std::int32_t> row_ptr(A.rows() + 1), col_idx(kept, uninitialized);
  Buffer<T> values(kept, uninitialized);
  Index i = 0;
  for (Index to = 0; to < kept; ++to) {
    const Index e = entries[static_cast<std::size_t>(to)];
    while (A.row_ptr().data()[i + 1] <= e) ++i;
    ++row_ptr[i + 1];
    col_idx[to] = A.col_idx().data()[e];
    values[to] = A.values().data()[e];
  }
  for (Index r = 0; r < A.rows(); ++r) row_ptr[r + 1] += row_ptr[r];
  return {trusted, A.rows(), A.cols(), std::move(row_ptr), std::move(col_idx), std::move(values)};
}

}  // namespace tessera::inline TESSERA_ABI
