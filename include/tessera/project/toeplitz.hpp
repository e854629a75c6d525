/// Toeplitz, Hankel and circulant matrices near a dense one.
#pragma once

#include <utility>
#include <vector>

#include <tessera/matrix/circulant.hpp>
#include <tessera/matrix/toeplitz.hpp>
#include <tessera/project/project.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {
/// The mean of the entries of W that share a number: the optimum in the Frobenius norm. which(i, j) < count. O(M·N).
template <class S, class Which>
Buffer<S> means(const Eigen::MatrixXd& W, Index count, const Which& which) {
  std::vector<double> sum(static_cast<std::size_t>(count)), members(sum.size());
  for (Index j = 0; j < W.cols(); ++j)
    for (Index i = 0; i < W.rows(); ++i) {
      sum[static_cast<std::size_t>(which(i, j))] += W(i, j);
      members[static_cast<std::size_t>(which(i, j))] += 1;
    }
  Buffer<S> mean(count);
  for (Index k = 0; k < count; ++k)
    mean[k] = static_cast<S>(sum[static_cast<std::size_t>(k)] / members[static_cast<std::size_t>(k)]);
  return mean;
}
}  // namespace detail

/// The mean of every diagonal.
template <std::floating_point S>
struct Projector<Toeplitz<S>> {
  struct Options {};
  static Toeplitz<S> run(const Eigen::MatrixXd& W, const Options&) {
    const Index m = W.rows(), n = W.cols();
    return {m, n, detail::means<S>(W, W.size() == 0 ? 0 : m + n - 1, [=](Index i, Index j) { return i - j + n - 1; })};
  }
};

/// The mean of every antidiagonal.
template <std::floating_point S>
struct Projector<Hankel<S>> {
  struct Options {};
  static Hankel<S> run(const Eigen::MatrixXd& W, const Options&) {
    const Index m = W.rows(), n = W.cols();
    return {m, n, detail::means<S>(W, W.size() == 0 ? 0 : m + n - 1, [](Index i, Index j) { return i + j; })};
  }
};

/// The mean of every wrapped diagonal; W must be square.
template <std::floating_point S>
struct Projector<Circulant<S>> {
  struct Options {};
  static Circulant<S> run(const Eigen::MatrixXd& W, const Options&) {
    const Index n = W.rows();
    if (W.cols() != n)
      throw shape_error(detail::concat("tessera: projection of ", detail::shape_text(n, W.cols()),
                                       " onto a Circulant: expected a square matrix"));
    return Circulant<S>(detail::means<S>(W, n, [=](Index i, Index j) { return i >= j ? i - j : i - j + n; }));
  }
};

}  // namespace tessera::inline TESSERA_ABI
