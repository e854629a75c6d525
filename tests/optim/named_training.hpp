/// A run of an optimizer by its name, and its state in a file.
#pragma once

#include <cstddef>
#include <span>
#include <tessera/optim/state_file.hpp>
#include <utility>
#include <vector>

#include "optim/by_name.hpp"
#include "optim/model.hpp"
#include "optim/targets.hpp"

namespace tessera::optim {

struct MemoryFile {
  std::vector<std::byte> bytes;
  void write(std::span<const std::byte> more) { bytes.insert(bytes.end(), more.begin(), more.end()); }
  Safetensors read() const { return read_safetensors(ByteSource::memory(bytes, "state")); }
};

inline MemoryFile file_of(AnyState<double>& state) {
  MemoryFile file;
  write_safetensors(file, state_tensors(state, "optimizer."));
  return file;
}

/// A run of a model on drawn gradients; objectives are linear, so that methods that look twice see the same.
struct Training {
  Model<double> model;
  AnyOptimizer<double> opt;
  AnyState<double> state;
  Context ctx;

  explicit Training(AnyOptimizer<double> its, Index threads = 1, Index rows = 9, Index cols = 7)
      : model(rows, cols), opt(std::move(its)), state(opt.init(model.params)), ctx(Context::with_threads(threads)) {}
  double loss() const {
    double sum = 0;
    for (std::size_t b = 0; b < model.params.size(); ++b)
      for (Index i = 0; i < model.params[b].size(); ++i) sum += model.params[b].data[i] * model.grads[b].data[i];
    return sum;
  }
  void steps(Index begin, Index end, double factor = 1) {
    for (Index step = begin; step < end; ++step) {
      const auto gradient = [&] {
        model.draw(step);
        for (double& g : model.dw) g *= factor;
        for (double& g : model.db) g *= factor;
        return loss();
      };
      gradient();
      auto targets = linear_targets(model, 300 + static_cast<std::uint64_t>(step));
      if (factor == 0) targets.backward = [&](const auto&, const auto&) { gradient(); };
      opt.step(ctx, {gradient, [&] { return loss(); }, targets}, model.grads, state, model.params);
    }
  }
  bool same_parameters(const Training& other) const {
    return same_bits(model.w, other.model.w) && same_bits(model.b, other.model.b);
  }
};

}  // namespace tessera::optim
