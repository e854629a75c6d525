/// Weights of a structure: the nearest matrix of it, plain or for what the layer saw, and the same after training.
#pragma once

#include <Eigen/Core>
#include <functional>
#include <vector>

#include "decoder.hpp"

namespace lm {

/// X Xᵀ (in, in) of all that the layer with these weights saw.
using GramOf = std::function<const Eigen::MatrixXd&(MatrixView<const float>)>;

/// Low rank, Monarch and sums of Kronecker products in 3/8 of the bytes of f32; each once more after `finetune` steps
/// of training to the outputs W X of its own layer, if there are any, and the low rank that is the optimum of that.
std::vector<WeightFormat> structured_weight_formats(const GramOf& gram, Index finetune);

}  // namespace lm
