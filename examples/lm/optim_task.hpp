/// What optim_lab trains: a small language model, or a classifier of MNIST digits.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "optimizers.hpp"

namespace lm {

class OptimTask {
 public:
  virtual ~OptimTask() = default;
  /// Mean loss over the batch of a step, in nats; its gradient into grads().
  virtual double gradient(tessera::Context& ctx, Index step) = 0;
  virtual double loss(tessera::Context& ctx, Index step) = 0;
  /// Of the batch of what `step` is then; both and the context are to outlive them.
  virtual optim::Targets<float> targets(tessera::Context& ctx, const Index& step) = 0;
  /// Of what was not trained on: bits per byte, or the share of digits taken for others.
  virtual double held_out(tessera::Context& ctx) = 0;

  const optim::Parameters<float>& params() const { return params_; }
  const optim::Parameters<float>& grads() const { return grads_; }
  Index parameter_count() const {
    Index total = 0;
    for (const auto& block : params_) total += block.size();
    return total;
  }
  /// The first parameters again.
  void restart() {
    for (std::size_t b = 0; b < params_.size(); ++b)
      std::copy_n(start_[b].data(), start_[b].size(), params_[b].values().begin());
  }

  std::string loss_unit, held_out_unit;
  Index examples = 0;        // bytes or images a step
  double in_unit = 1;        // of one nat of training loss
  optim::RecipeMasks masks;  // of the parameters

 protected:
  void trains(optim::Parameters<float> params, optim::Parameters<float> grads) {
    params_ = std::move(params);
    grads_ = std::move(grads);
    for (const auto& block : params_) {
      start_.emplace_back(block.size());
      std::copy_n(block.data, block.size(), start_.back().data());
    }
  }

 private:
  optim::Parameters<float> params_, grads_;
  std::vector<Buffer<float>> start_;
};

/// The decoder on text, batches of `batch` sequences.
std::unique_ptr<OptimTask> language_task(const Config& config, const std::string& text, Index batch,
                                         std::uint64_t seed);

/// Images of 14x14 from a safetensors file with Xtrain, Ytrain, Xtest, Ytest; `hidden` rectified units, 0: none, which
/// is logistic regression.
std::unique_ptr<OptimTask> mnist_task(const std::string& file, Index hidden, Index batch, std::uint64_t seed);

}  // namespace lm
