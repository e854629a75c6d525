/// Weights of a structure: the nearest matrix of it, and the same in training.
#pragma once

#include <Eigen/Core>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <tessera/matrix/any.hpp>
#include <vector>

#include "model.hpp"

namespace lm {

using tessera::AnyOperator;
using tessera::Context;

/// Weights (out, in) of a structure in the place of a layer's, with parameters to train.
struct StructuredLayer {
  AnyOperator<float> op;                     // has apply, either way, and grad
  std::vector<std::span<float>> blocks;      // its parameters, in grad's order
  std::function<void()> changed;             // to be called once they were written
  std::function<AnyOperator<float>()> held;  // what the layer is when it is not trained any more
  std::function<AnyOperator<float>()> int8;  // the same in int8, where a structure has that form
};

struct Structure {
  std::string name;
  /// Near W (out, in); `gram` is X Xᵀ (in, in) of all that the layer saw.
  std::function<StructuredLayer(MatrixView<const float> W, const Eigen::MatrixXd& gram)> nearest;
  bool fit_first = false;  // training begins with that of each layer to its own outputs: no closed form finds them
  double rate = 3e-3;      // of its training, at the peak
  double training = 1;     // share of the steps
  bool int8 = false;       // has rows in int8, too
};

/// Low rank, plain and calibrated, Monarch and sums of Kronecker products in 3/8 of the bytes of f32; half and a
/// quarter of the entries by SparseGPT, each in the format of fewest bytes that its pattern has, 2:4 in int8 as well.
std::vector<Structure> structures();

/// Trains one layer by Adam to the outputs W X of its own layer, X Xᵀ = gram; as it was where that gains nothing.
void fit_outputs(Context& ctx, StructuredLayer& layer, MatrixView<const float> W, const Eigen::MatrixXd& gram,
                 Index steps);

}  // namespace lm
