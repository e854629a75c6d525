/// Sparse training at a constant number of weights: the least are dropped and as many grow elsewhere.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <tessera/compress/mask.hpp>
#include <tessera/core/rng.hpp>

namespace tessera::inline TESSERA_ABI {

/// One step of dynamic sparse training on a mask: floor(fraction·count) of the active weights of least magnitude are
/// dropped, and as many of the places that were inactive grow with weight 0, so that the function changes by the
/// dropped ones alone: those of largest |criterion| (its gradient: RigL, U. Evci et al. 2020; a momentum: SNFS, T.
/// Dettmers & L. Zettlemoyer 2019), or at random without a criterion (SET, D. Mocanu et al. 2018). Places in `frozen`
/// (of earlier tasks; S. Yildirim et al., "Continual Learning with Dynamic Sparse Training", CPAL 2024) are neither
/// dropped nor grown nor written. The count never changes. O(MN). Throws shape_error, unsupported_error for a fraction
/// outside [0,1].
struct PruneGrow {
  double fraction = 0.3;   // of the active weights that move
  std::uint64_t seed = 0;  // of growth at random, which ranks places by it alone: another at each step explores all

  /// Returns how many weights moved.
  template <std::floating_point T>
  Index step(Mask& mask, MatrixView<T> W, const MatrixView<const T>* criterion = nullptr,
             const Mask* frozen = nullptr) const {
    detail::check_mask("PruneGrow", W.rows(), W.cols(), mask);
    if (criterion != nullptr) detail::check_mask("PruneGrow's criterion", criterion->rows(), criterion->cols(), mask);
    if (frozen != nullptr) detail::check_mask("PruneGrow's frozen places", W.rows(), W.cols(), *frozen);
    const Index cols = W.cols();
    std::vector<Index> active, free;
    for (Index p = 0; p < mask.size(); ++p)
      if (frozen == nullptr || !(*frozen)[p]) (mask[p] ? active : free).push_back(p);
    const Index dropped =
        std::min(static_cast<Index>(moved(static_cast<double>(active.size()))), static_cast<Index>(free.size()));
    const Philox draws(seed);
    const auto drop =
        detail::largest(std::move(active), dropped, [&](Index p) { return -std::abs(W(p / cols, p % cols)); });
    const auto grow =
        criterion != nullptr
            ? detail::largest(std::move(free), dropped,
                              [&](Index p) { return static_cast<double>(std::abs((*criterion)(p / cols, p % cols))); })
            : detail::largest(std::move(free), dropped,
                              [&](Index p) { return static_cast<double>(draws.bits(static_cast<std::uint64_t>(p))); });
    for (const auto* places : {&drop, &grow})
      for (const Index p : *places) {
        mask.set(p, places == &grow);
        W(p / cols, p % cols) = T(0);
      }
    return dropped;
  }

  double moved(double active) const {
    if (!(fraction >= 0 && fraction <= 1))
      throw unsupported_error(detail::concat("tessera: PruneGrow of a fraction ", fraction, "; expected 0 to 1"));
    return std::floor(fraction * active);
  }
};

/// A sparse layer and the gradient of its dense weight.
template <std::floating_point T>
struct DynamicLayer {
  Csr<T>* weight;
  MatrixView<const T> gradient;  // (M,N)
};

/// The same on compressed rows and over all layers at once: the rate·(all) least |w| go wherever they are and the
/// largest |gradient| at places without an entry come, so that layers gain and lose but their sum does not; weights
/// that stay keep their bits. S. Wang et al., "Dynamic Sparse Learning: A Novel Paradigm for Efficient Recommendation"
/// (WSDM 2024): significance by magnitude, growth by gradient; its schedule is the caller's. O(Σ MN). Throws
/// shape_error.
template <std::floating_point T>
Index dynamic_sparse_update(std::span<const DynamicLayer<T>> layers, double rate) {
  std::vector<Index> active, free, begin{0};
  std::vector<T> size;  // |w| where there is one, else |gradient|, of all layers one after another
  for (const auto& l : layers) {
    const Csr<T>& W = *l.weight;
    if (l.gradient.rows() != W.rows() || l.gradient.cols() != W.cols())
      throw shape_error(detail::concat(
          "tessera: dynamic_sparse_update of (Csr ", detail::shape_text(W.rows(), W.cols()), ") with a gradient (",
          detail::shape_text(l.gradient.rows(), l.gradient.cols()), "): expected one shape"));
    for (Index i = 0; i < W.rows(); ++i) {
      Index e = W.row_ptr().data()[i];
      for (Index j = 0; j < W.cols(); ++j) {
        const bool in = e < W.row_ptr().data()[i + 1] && W.col_idx().data()[e] == j;
        (in ? active : free).push_back(static_cast<Index>(size.size()));
        size.push_back(std::abs(in ? W.values().data()[e++] : l.gradient(i, j)));
      }
    }
    begin.push_back(static_cast<Index>(size.size()));
  }
  const Index count =
      std::min(static_cast<Index>(PruneGrow{.fraction = rate}.moved(static_cast<double>(active.size()))),
               static_cast<Index>(free.size()));
  std::vector<char> changes(size.size());
  const auto of = [&](Index p) { return size[static_cast<std::size_t>(p)]; };
  for (const Index p : detail::largest(std::move(active), count, [&](Index q) { return -of(q); }))
    changes[static_cast<std::size_t>(p)] = 1;
  for (const Index p : detail::largest(std::move(free), count, of)) changes[static_cast<std::size_t>(p)] = 1;
  for (std::size_t l = 0; l < layers.size(); ++l) {
    const Csr<T>& W = *layers[l].weight;
    Buffer<std::int32_t> row_ptr(W.rows() + 1);
    std::vector<std::int32_t> columns;
    std::vector<T> values;
    for (Index i = 0; i < W.rows(); ++i) {
      Index e = W.row_ptr().data()[i];
      for (Index j = 0; j < W.cols(); ++j) {
        const bool in = e < W.row_ptr().data()[i + 1] && W.col_idx().data()[e] == j;
        const T value = in ? W.values().data()[e++] : T(0);
        if (in == (changes[static_cast<std::size_t>(begin[l] + i * W.cols() + j)] != 0)) continue;
        columns.push_back(static_cast<std::int32_t>(j));
        values.push_back(value);
      }
      row_ptr[i + 1] = static_cast<std::int32_t>(columns.size());
    }
    Buffer<std::int32_t> col_idx(static_cast<Index>(columns.size()), uninitialized);
    Buffer<T> kept(col_idx.size(), uninitialized);
    std::copy(columns.begin(), columns.end(), col_idx.data());
    std::copy(values.begin(), values.end(), kept.data());
    *layers[l].weight = Csr<T>(trusted, W.rows(), W.cols(), std::move(row_ptr), std::move(col_idx), std::move(kept));
  }
  return count;
}

}  // namespace tessera::inline TESSERA_ABI
