/// What a calibration set says about a linear layer's inputs: one statistics object for every quantizer.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <utility>

#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kernels/gemm/syrk.hpp>
#include <tessera/matrix/detail/gram.hpp>

namespace tessera::inline TESSERA_ABI {

/// Accumulates G = sum X Xᵀ (K,K) and each feature's absmax, mean and mean |x| over batches X (K,N), one sample a
/// column (pass `.transposed()` of activations that have one a row). G is the Hessian of ‖(W - Q) X‖² in a row of Q up
/// to a factor 2, which every layer-wise method here works on. Products are f32 over at most 256 samples at a time, by
/// syrk, and those partial sums are added in f64: the error is γ_256 |X||X|ᵀ however many samples there are, at the
/// speed of f32. G is symmetric bit for bit.
class Calibration {
 public:
  explicit Calibration(Index features) : absmax_(Eigen::VectorXd::Zero(checked(features))) {
    sum_ = abs_sum_ = absmax_;
    gram_ = Eigen::MatrixXd::Zero(features, features);
  }

  /// A calibration known by its second moments alone; `has_ranges()` is false. Throws shape_error unless square,
  /// unsupported_error unless it can be a sum of x xᵀ: finite, symmetric, positive semidefinite. O(K³)
  template <class = void>
  static Calibration from_gram(Eigen::MatrixXd gram, Index samples) {
    if (gram.rows() != gram.cols() || samples < 0)
      throw shape_error(detail::concat("tessera: Calibration::from_gram(", detail::shape_text(gram.rows(), gram.cols()),
                                       ", ", samples, " samples): expected a square matrix and at least 0 samples"));
    detail::check_gram("Calibration::from_gram", gram);
    Calibration made(0);
    made.absmax_ = Eigen::VectorXd::Zero(gram.rows());
    made.gram_ = std::move(gram);
    made.samples_ = samples;
    made.has_ranges_ = false;
    return made;
  }

  /// X (K,N), any strides. O(K²N). Throws shape_error unless K is features(), unsupported_error for values that are not
  /// finite or whose products are not; then nothing has been added.
  template <class = void>
  void add(Context& ctx, MatrixView<const float> X) {
    const Index K = features();
    if (X.rows() != K)
      throw shape_error(detail::concat("tessera: calibration of ", K, " features with X (",
                                       detail::shape_text(X.rows(), X.cols()), "): rows ", X.rows(), " != features ",
                                       K));
    Calibration batch(K);
    for (Index n = 0; n < X.cols(); ++n)
      for (Index k = 0; k < K; ++k) {
        const double x = static_cast<double>(X(k, n)), size = std::abs(x);
        if (!std::isfinite(x))
          throw unsupported_error(detail::concat("tessera: calibration: feature ", k, " of sample ", n, " is ", x,
                                                 "; expected finite activations"));
        batch.absmax_[k] = std::max(batch.absmax_[k], size);
        batch.sum_[k] += x;
        batch.abs_sum_[k] += size;
      }
    constexpr Index most = 256;
    Eigen::MatrixXf part = Eigen::MatrixXf::Zero(K, K);  // the lower triangle alone is computed
    for (Index n = 0; n < X.cols(); n += most) {
      const auto some = X.slice(1, n, std::min(most, X.cols() - n));
      syrk(ctx, 1.0f, some, 0.0f, MatrixView<float>(part.data(), {K, K}, {1, K}), Triangle::lower);
      if (!part.allFinite())
        throw unsupported_error("tessera: calibration: products of activations overflow f32; expected |x| < 1e18");
      batch.gram_ += part.cast<double>();
    }
    batch.gram_.triangularView<Eigen::StrictlyUpper>() = batch.gram_.transpose();
    batch.samples_ = X.cols();
    merge(batch);
  }

  /// Statistics of both sets. Throws shape_error for other features.
  void merge(const Calibration& other) {
    if (other.features() != features())
      throw shape_error(detail::concat("tessera: merging calibrations of ", features(), " and ", other.features(),
                                       " features; expected as many"));
    gram_ += other.gram_;
    samples_ += other.samples_;
    has_ranges_ = has_ranges_ && other.has_ranges_;
    if (!has_ranges_) return;
    absmax_ = absmax_.cwiseMax(other.absmax_);
    sum_ += other.sum_;
    abs_sum_ += other.abs_sum_;
  }

  Index features() const { return gram_.rows(); }
  Index samples() const { return samples_; }
  const Eigen::MatrixXd& gram() const { return gram_; }  // (K,K)
  Eigen::VectorXd mean_square() const { return gram_.diagonal() / divisor(); }

  /// Whether more than second moments is known; absmax(), mean() and mean_abs() throw unsupported_error otherwise.
  bool has_ranges() const { return has_ranges_; }
  const Eigen::VectorXd& absmax() const { return need_ranges(), absmax_; }
  Eigen::VectorXd mean() const { return need_ranges(), sum_ / divisor(); }
  Eigen::VectorXd mean_abs() const { return need_ranges(), abs_sum_ / divisor(); }

  /// G + fraction * mean(diag G) I: positive definite for fraction > 0 unless all activations were zero. Features that
  /// never were active get that much and nothing else.
  Eigen::MatrixXd damped(double fraction) const {
    Eigen::MatrixXd H = gram_;
    H.diagonal().array() += fraction * gram_.diagonal().mean();
    return H;
  }

  /// Statistics of diag(d) X. Throws shape_error unless d has features() entries.
  template <class = void>
  Calibration scaled(const Eigen::VectorXd& d) const {
    if (d.size() != features())
      throw shape_error(detail::concat("tessera: scaling a calibration of ", features(), " features by ", d.size(),
                                       " values; expected as many"));
    Calibration made = *this;
    made.gram_ = d.asDiagonal() * gram_ * d.asDiagonal();
    made.absmax_ = absmax_.cwiseProduct(d.cwiseAbs());
    if (!has_ranges_) return made;
    made.sum_ = sum_.cwiseProduct(d);
    made.abs_sum_ = abs_sum_.cwiseProduct(d.cwiseAbs());
    return made;
  }

 private:
  static Index checked(Index features) {
    if (features < 0 || features > (Index{1} << 24))
      throw shape_error(detail::concat("tessera: Calibration(", features, "): expected 0 to 2^24 features"));
    return features;
  }
  double divisor() const { return static_cast<double>(std::max<Index>(samples_, 1)); }
  void need_ranges() const {
    if (!has_ranges_)
      throw unsupported_error(
          "tessera: a calibration from second moments alone has no ranges or means; expected one made by add()");
  }

  Eigen::MatrixXd gram_;
  Eigen::VectorXd absmax_, sum_, abs_sum_;
  Index samples_ = 0;
  bool has_ranges_ = true;
};

}  // namespace tessera::inline TESSERA_ABI
