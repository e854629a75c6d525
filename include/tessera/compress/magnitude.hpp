/// Pruning by the size of weights, or by their size times that of what they meet.
#pragma once

#include <cmath>
#include <utility>

#include <tessera/compress/mask.hpp>

namespace tessera::inline TESSERA_ABI {

/// What competes: all entries of the matrix, or those of each row.
enum class PruneAmong { matrix, row };

namespace detail {
template <class Score>
Mask mask_of_largest(const char* what, Index rows, Index cols, double density, PruneAmong among, Score&& score) {
  Mask mask(rows, cols, false);
  const Index group = among == PruneAmong::row ? cols : rows * cols, kept = kept_of(what, density, group);
  for (Index begin = 0; begin < rows * cols; begin += std::max<Index>(group, 1))
    for (const Index p : largest(all_places(begin, group), kept, score)) mask.set(p, true);
  return mask;
}
}  // namespace detail

/// The largest |w|; of equal ones the first. S. Han et al. (2015). O(MN). Throws unsupported_error unless 0 <= density
/// <= 1.
template <std::floating_point T>
Mask magnitude_mask(MatrixView<const T> W, double density, PruneAmong among = PruneAmong::matrix) {
  return detail::mask_of_largest("magnitude_mask", W.rows(), W.cols(), density, among,
                                 [&](Index p) { return std::abs(W(p / W.cols(), p % W.cols())); });
}

struct Magnitude {
  double density = 0.5;
  PruneAmong among = PruneAmong::matrix;

  template <class = void>
  Pruning prune(Context& ctx, MatrixView<const float> W, const Calibration* calibration = nullptr) const {
    return detail::pruned(ctx, W, magnitude_mask(W, density, among), W, calibration);
  }
};

/// Wanda: in each row the largest |w_ij|·‖X_j‖, X_j the calibration's feature j; weights stay as they are. M. Sun et
/// al., "A Simple and Effective Pruning Approach for Large Language Models" (ICLR 2024), Eq. 1. O(MK). Throws as
/// Magnitude, and shape_error for a calibration of other features.
struct Wanda {
  double density = 0.5;
  PruneAmong among = PruneAmong::row;

  template <class = void>
  Pruning prune(Context& ctx, MatrixView<const float> W, const Calibration& calibration) const {
    detail::check_quantizer("Wanda", W, calibration);
    Eigen::VectorXd norm = calibration.gram().diagonal();
    norm = norm.cwiseSqrt().eval();
    Mask mask = detail::mask_of_largest("Wanda", W.rows(), W.cols(), density, among, [&](Index p) {
      return std::abs(static_cast<double>(W(p / W.cols(), p % W.cols()))) * norm[p % W.cols()];
    });
    return detail::pruned(ctx, W, std::move(mask), W, &calibration);
  }
};

}  // namespace tessera::inline TESSERA_ABI
