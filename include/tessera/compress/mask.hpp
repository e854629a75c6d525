/// Which entries of a weight are kept, as bits, and what that cost.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include <tessera/core/buffer.hpp>
#include <tessera/matrix/csr.hpp>
#include <tessera/quant/report.hpp>

namespace tessera::inline TESSERA_ABI {

/// A bit for each entry of a (M,N), row by row.
class Mask {
 public:
  Mask() = default;
  Mask(Index rows, Index cols, bool kept) : rows_(rows), cols_(cols), words_(word_count(rows, cols)) {
    if (kept)
      for (Index p = 0; p < rows * cols; ++p) set(p, true);
  }
  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  Index size() const { return rows_ * cols_; }
  std::size_t bytes() const { return words_.bytes(); }
  bool operator()(Index i, Index j) const { return (*this)[i * cols_ + j]; }
  bool operator[](Index place) const { return ((words_[place >> 6] >> (place & 63)) & 1) != 0; }
  void set(Index place, bool kept) {
    const std::uint64_t bit = std::uint64_t{1} << (place & 63);
    words_[place >> 6] = kept ? words_[place >> 6] | bit : words_[place >> 6] & ~bit;
  }
  Index count() const {
    Index kept = 0;
    for (const auto word : words_) kept += std::popcount(word);
    return kept;
  }
  friend bool operator==(const Mask& a, const Mask& b) {
    return a.rows_ == b.rows_ && a.cols_ == b.cols_ && std::equal(a.words_.begin(), a.words_.end(), b.words_.begin());
  }

 private:
  static Index word_count(Index rows, Index cols) {
    Index size = 0;
    if (rows < 0 || cols < 0 || __builtin_mul_overflow(rows, cols, &size))
      throw shape_error(
          detail::concat("tessera: Mask ", detail::shape_text(rows, cols), ": expected sizes that can be counted"));
    return size / 64 + (size % 64 != 0);
  }
  Index rows_ = 0, cols_ = 0;
  Buffer<std::uint64_t> words_;
};

namespace detail {

inline void check_mask(const char* what, Index rows, Index cols, const Mask& mask) {
  if (rows != mask.rows() || cols != mask.cols())
    throw shape_error(concat("tessera: ", what, " of (", shape_text(rows, cols), ") with a mask of (",
                             shape_text(mask.rows(), mask.cols()), "): expected one shape"));
}
inline Index kept_of(const char* what, double density, Index size) {
  if (!(density >= 0 && density <= 1))
    throw unsupported_error(concat("tessera: ", what, " to a density of ", density, "; expected 0 to 1"));
  return static_cast<Index>(std::llround(density * static_cast<double>(size)));
}

/// The `kept` of places with the largest score(place), NaN above all, of equal ones the first, in rising order.
template <class Score>
std::vector<Index> largest(std::vector<Index> places, Index kept, Score&& score) {
  std::nth_element(places.begin(), places.begin() + kept, places.end(), [&](Index p, Index q) {
    const auto x = score(p), y = score(q);
    const bool x_is_nan = x != x, y_is_nan = y != y;
    if (x_is_nan || y_is_nan) return x_is_nan != y_is_nan ? x_is_nan : p < q;
    return x != y ? x > y : p < q;
  });
  places.resize(static_cast<std::size_t>(kept));
  std::sort(places.begin(), places.end());
  return places;
}
inline std::vector<Index> all_places(Index begin, Index count) {
  std::vector<Index> places(static_cast<std::size_t>(count));
  std::iota(places.begin(), places.end(), begin);
  return places;
}

}  // namespace detail

/// W := W ∘ mask in place. Throws shape_error.
template <class T>
void apply_mask(const Mask& mask, MatrixView<T> W) {
  detail::check_mask("apply_mask", W.rows(), W.cols(), mask);
  for (Index i = 0; i < W.rows(); ++i)
    for (Index j = 0; j < W.cols(); ++j)
      if (!mask(i, j)) W(i, j) = T(0);
}

namespace detail {
/// value(i, j) on the mask's pattern, asked for row by row. Throws format_error.
template <class T, class F>
Csr<T> csr_on(const Mask& mask, F&& value) {
  const Index nnz = checked_count<std::int32_t>("masked_csr", mask.count());
  if (mask.cols() > 0) checked_count<std::int32_t>("masked_csr", mask.cols() - 1, "columns after the first");
  Buffer<std::int32_t> row_ptr(mask.rows() + 1), col_idx(nnz, uninitialized);
  Buffer<T> values(nnz, uninitialized);
  Index to = 0;
  for (Index i = 0; i < mask.rows(); ++i) {
    for (Index j = 0; j < mask.cols(); ++j)
      if (mask(i, j)) {
        col_idx[to] = static_cast<std::int32_t>(j);
        values[to++] = value(i, j);
      }
    row_ptr[i + 1] = static_cast<std::int32_t>(to);
  }
  return {trusted, mask.rows(), mask.cols(), std::move(row_ptr), std::move(col_idx), std::move(values)};
}
}  // namespace detail

/// W on the mask's pattern; zeros that are kept stay entries. Throws shape_error, format_error.
template <class T>
Csr<T> masked_csr(const Mask& mask, MatrixView<const T> W) {
  detail::check_mask("masked_csr", W.rows(), W.cols(), mask);
  return detail::csr_on<T>(mask, [&](Index i, Index j) { return W(i, j); });
}

struct PruningReport {
  Index kept = 0;
  double density = 0;
  double weight_error = 0;                                         // ‖W - Ŵ‖ / ‖W‖
  double output_error = std::numeric_limits<double>::quiet_NaN();  // ‖(W - Ŵ) X‖ / ‖W X‖ on the calibration, if any
  std::size_t bytes = 0;                                           // of the matrix that is left
};

/// What a pruning method gives: the weights that are left, where they are, and what that cost.
struct Pruning {
  Csr<float> matrix;
  Mask mask;
  PruningReport report;
};

namespace detail {

/// `left` (M,K) on `mask`, reported against W.
template <class = void>
Pruning pruned(Context& ctx, MatrixView<const float> W, Mask mask, MatrixView<const float> left,
               const Calibration* calibration) {
  Pruning made{masked_csr(mask, left), std::move(mask), {}};
  made.report.kept = made.mask.count();
  made.report.density = static_cast<double>(made.report.kept) / static_cast<double>(std::max<Index>(1, W.size()));
  made.report.bytes = made.matrix.bytes();
  Eigen::MatrixXd full(W.rows(), W.cols()), error(W.rows(), W.cols());
  for (Index i = 0; i < W.rows(); ++i)
    for (Index j = 0; j < W.cols(); ++j) {
      full(i, j) = static_cast<double>(W(i, j));
      error(i, j) = full(i, j) - (made.mask(i, j) ? static_cast<double>(left(i, j)) : 0.0);
    }
  made.report.weight_error = full.norm() > 0 ? error.norm() / full.norm() : 0.0;
  if (calibration != nullptr) {
    const double energy = output_energy(ctx, full, *calibration);
    if (energy > 0) made.report.output_error = std::sqrt(output_energy(ctx, error, *calibration) / energy);
  }
  return made;
}

}  // namespace detail
}  // namespace tessera::inline TESSERA_ABI
