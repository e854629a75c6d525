/// Hashed matrices near a dense one.
#pragma once

#include <utility>
#include <vector>

#include <tessera/matrix/hashed.hpp>
#include <tessera/project/project.hpp>

namespace tessera::inline TESSERA_ABI {

/// Every shared parameter is the mean of the entries that have it, each with its sign: the optimum for that hash. With
/// as many parameters as entries W comes back. O(M·N).
template <std::floating_point S>
struct Projector<Hashed<S>> {
  struct Options {
    Index parameters = 1;
    std::uint64_t seed = 1;
  };
  static Hashed<S> run(const Eigen::MatrixXd& W, const Options& options) {
    if (options.parameters < 0 || options.parameters > W.size())
      throw shape_error(detail::concat("tessera: projection onto a Hashed matrix of ", options.parameters,
                                       " parameters: expected 1 to ", W.size()));
    Hashed<S> H(W.rows(), W.cols(), Buffer<S>(options.parameters), options.seed);
    std::vector<double> sum(static_cast<std::size_t>(options.parameters)), count(sum.size());
    for (Index i = 0; i < W.rows(); ++i)
      for (Index j = 0; j < W.cols(); ++j) {
        const Index k = i * W.cols() + j;
        const auto slot = static_cast<std::size_t>(H.slot(k));
        sum[slot] += static_cast<double>(H.sign(k)) * W(i, j);
        count[slot] += 1;
      }
    for (std::size_t p = 0; p < sum.size(); ++p)
      if (count[p] > 0) H.parameters()[p] = static_cast<S>(sum[p] / count[p]);
    return H;
  }
};

}  // namespace tessera::inline TESSERA_ABI
