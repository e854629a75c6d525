#include "optim_task.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <span>
#include <tessera/io/safetensors.hpp>
#include <tessera/matrix/dense.hpp>
#include <tessera/nn/cross_entropy.hpp>
#include <tessera/optim/output_laws.hpp>
#include <utility>
#include <vector>

#include "corpus.hpp"
#include "trainer.hpp"

namespace lm {

namespace {

class LanguageTask : public OptimTask {
 public:
  LanguageTask(const Config& config, const std::string& path, Index batch, std::uint64_t seed)
      : seed_(seed),
        model_(random_model(config, seed)),
        gradient_(config.parameter_count()),
        weights_(weights_of(model_)),
        gradients_(gradients_of(config, gradient_.data())),
        trainer_(config, batch, config.context) {
    const Corpus corpus = read_corpus(path);
    text_ = byte_tokens(corpus.train);
    held_out_ = byte_tokens(corpus.held_out);
    for (const auto* text : {&text_, &held_out_})
      if (static_cast<Index>(text->size()) <= config.context)
        throw tessera::format_error(fmt::format("{} holds {} bytes to {}; expected more than --length {}", path,
                                                text->size(), text == &text_ ? "train on" : "evaluate on",
                                                config.context));
    loss_unit = held_out_unit = "bits/byte";
    in_unit = 1 / std::numbers::ln2;
    examples = batch * config.context;
    masks = decoder_masks();
    inputs_.resize(static_cast<std::size_t>(examples));
    targets_.resize(inputs_.size());
    trains(blocks(config, model_.values.data()), blocks(config, gradient_.data()));
  }

  double gradient(Context& ctx, Index step) override {
    draw_batch(text_, seed_, step, model_.config.context, inputs_, targets_);
    return trainer_.step(ctx, weights_, gradients_, inputs_, targets_);
  }
  double loss(Context& ctx, Index step) override { return loss_of(ctx, text_, step); }
  optim::Targets<float> targets(Context& ctx, const Index& step) override {
    auto targets = decoder_targets(ctx, trainer_, weights_, gradients_, grads(), inputs_, targets_);
    targets.forward = [this, &step, forward = targets.forward](MatrixView<float> z) {
      draw_batch(text_, seed_, step, model_.config.context, inputs_, targets_);
      forward(z);
    };
    return targets;
  }
  double held_out(Context& ctx) override {
    constexpr Index batches = 8;
    double sum = 0;
    for (Index i = 0; i < batches; ++i) sum += loss_of(ctx, held_out_, i);
    return sum / batches * in_unit;
  }

 private:
  double loss_of(Context& ctx, const std::vector<std::int32_t>& text, Index step) {
    draw_batch(text, seed_, step, model_.config.context, inputs_, targets_);
    return trainer_.loss(ctx, weights_, inputs_, targets_);
  }

  std::uint64_t seed_;
  Model model_;
  Buffer<float> gradient_;
  Weights weights_;
  Gradients gradients_;
  Trainer trainer_;
  std::vector<std::int32_t> text_, held_out_, inputs_, targets_;
};

struct Rectify {
  template <class V>
  TESSERA_INLINE void operator()(V& x) const {
    x = max(x, V(0));
  }
};
struct RectifyBackward {
  template <class V>
  TESSERA_INLINE void operator()(V& d, const V& y) const {
    d = select(y > V(0), d, V(0));
  }
};

/// logits = W·x + b, or W2·max(W1·x + b1, 0) + b2.
class MnistTask : public OptimTask {
 public:
  MnistTask(const std::string& path, Index hidden, Index batch, std::uint64_t seed)
      : seed_(seed), hidden_(hidden), inner_(hidden > 0 ? hidden : pixels) {
    const auto file = tessera::read_safetensors(path);
    images_ = read(file["Xtrain"], pixels);
    labels_ = classes_of(file["Ytrain"], images_.rows);
    test_images_ = read(file["Xtest"], pixels);
    test_labels_ = classes_of(file["Ytest"], test_images_.rows);
    if (images_.rows < 1 || test_images_.rows < 1)
      throw tessera::format_error(path + ": no images; expected some to train on and some to test");
    loss_unit = "nats";
    held_out_unit = "wrong";
    examples = std::min(batch, images_.rows);
    const Index most = std::max(examples, test_images_.rows);
    x_ = Buffer<float>(most * pixels);
    h_ = Buffer<float>(most * inner_);
    d_h_ = Buffer<float>(most * inner_);
    logits_ = Buffer<float>(most * classes);
    values_ = Buffer<float>((hidden > 0 ? hidden * (pixels + 1) : 0) + classes * (inner_ + 1));
    gradient_ = Buffer<float>(values_.size());
    const tessera::Philox draws(seed, 0x3157);
    auto params = views(values_.data());
    for (const auto& block : params)
      if (block.rows > 1)  // He et al. (2015), half as much where nothing is rectified
        for (Index i = 0; i < block.size(); ++i)
          block.data[i] = static_cast<float>(std::sqrt((hidden > 0 ? 2.0 : 1.0) / static_cast<double>(block.cols)) *
                                             draws.normal(static_cast<std::uint64_t>(&block.data[i] - values_.data())));
    trains(std::move(params), views(gradient_.data()));
  }

  double gradient(Context& ctx, Index step) override {
    take(step);
    return run(ctx, examples, x_.data(), targets_, true).mean();
  }
  double loss(Context& ctx, Index step) override {
    take(step);
    return run(ctx, examples, x_.data(), targets_, false).mean();
  }
  optim::Targets<float> targets(Context& ctx, const Index& step) override {
    optim::Targets<float> targets{.rows = examples, .cols = classes};
    targets.forward = [this, &ctx, &step](MatrixView<float> z) {
      take(step);
      forward(ctx, examples, x_.data(), z);
    };
    targets.backward = [this, &ctx](MatrixView<const float> dz, const optim::SeeLayer<float>& see) {
      backward(ctx, x_.data(), dz, see);
    };
    return optim::of_classes(ctx, std::move(targets), [this] { return std::span<const std::int32_t>(targets_); });
  }
  double held_out(Context& ctx) override {
    const Index n = test_images_.rows;
    run(ctx, n, test_images_.values.data(), test_labels_, false);
    Index wrong = 0;
    for (Index i = 0; i < n; ++i) {
      const float* row = logits_.data() + i * classes;
      if (std::max_element(row, row + classes) - row != test_labels_[static_cast<std::size_t>(i)]) ++wrong;
    }
    return static_cast<double>(wrong) / static_cast<double>(n);
  }

 private:
  static constexpr Index pixels = 196, classes = 10;
  struct Images {
    Index rows = 0;
    Buffer<float> values;  // (rows, pixels), the brightest 1
  };

  static Images read(const tessera::Tensor& tensor, Index cols) {
    if (tensor.rank() != 2 || tensor.shape[1] != cols)
      throw tessera::format_error(fmt::format("{} has the shape {}; expected (n, {})", tensor.name,
                                              tessera::detail::shape_text(std::span<const Index>(tensor.shape)), cols));
    const auto bytes = tensor.read<std::int64_t>();
    Images images{tensor.shape[0], Buffer<float>(bytes.size())};
    const std::int64_t most =
        bytes.size() == 0 ? 1 : std::max<std::int64_t>(1, *std::max_element(bytes.begin(), bytes.end()));
    for (Index i = 0; i < bytes.size(); ++i) images.values[i] = static_cast<float>(bytes[i]) / static_cast<float>(most);
    return images;
  }
  static std::vector<std::int32_t> classes_of(const tessera::Tensor& tensor, Index rows) {
    const Images hot = read(tensor, classes);
    if (hot.rows != rows)
      throw tessera::format_error(fmt::format("{} has {} rows; expected {}", tensor.name, hot.rows, rows));
    std::vector<std::int32_t> labels;
    for (Index i = 0; i < rows; ++i) {
      const float* row = hot.values.data() + i * classes;
      labels.push_back(static_cast<std::int32_t>(std::max_element(row, row + classes) - row));
    }
    return labels;
  }
  optim::Parameters<float> views(float* data) const {
    optim::Parameters<float> all;
    const auto layer = [&](const std::string& name, Index out, Index in) {
      all.emplace_back(name + ".weight", MatrixView<float>(data, out, in));
      data += out * in;
      all.emplace_back(name + ".bias", std::span<float>(data, static_cast<std::size_t>(out)));
      data += out;
    };
    if (hidden_ > 0) layer("hidden", hidden_, pixels);
    layer("output", classes, inner_);
    return all;
  }
  void take(Index step) {
    const tessera::Philox draws(seed_, 0xba7c);
    targets_.clear();
    for (Index i = 0; i < examples; ++i) {
      const auto at = static_cast<Index>(
          draws.below(static_cast<std::uint64_t>(step * examples + i), static_cast<std::uint64_t>(images_.rows)));
      std::copy_n(images_.values.data() + at * pixels, pixels, x_.data() + i * pixels);
      targets_.push_back(labels_[static_cast<std::size_t>(at)]);
    }
  }
  nn::CrossEntropy run(Context& ctx, Index n, const float* images, std::span<const std::int32_t> targets,
                       bool with_gradient) {
    const MatrixView<float> logits(logits_.data(), n, classes);
    forward(ctx, n, images, logits);
    const auto result = nn::cross_entropy<float>(ctx, logits, targets, with_gradient ? logits : MatrixView<float>(),
                                                 1.0f / static_cast<float>(n));
    if (with_gradient) backward(ctx, images, logits, {});
    return result;
  }
  static tessera::DenseView<float> dense(const optim::Parameter<float>& p) {
    return tessera::DenseView<float>(MatrixView<const float>(p.data, p.rows, p.cols));
  }
  void forward(Context& ctx, Index n, const float* images, MatrixView<float> logits) {
    const MatrixView<const float> X(images, n, pixels);
    const MatrixView<float> H(h_.data(), n, inner_);
    const std::size_t out = params().size() - 2;
    if (hidden_ > 0) {
      nn::linear(ctx, dense(params()[0]), X, H);
      nn::add_bias<float>(ctx, params()[1].view(), H);
      map(ctx, Rectify{}, VectorView<float>(H.data(), H.size()));
    }
    nn::linear(ctx, dense(params()[out]), hidden_ > 0 ? MatrixView<const float>(H) : X, logits);
    nn::add_bias<float>(ctx, params()[out + 1].view(), logits);
  }
  /// After forward of the same images.
  void backward(Context& ctx, const float* images, MatrixView<const float> d_logits,
                const optim::SeeLayer<float>& see) {
    const Index n = d_logits.rows();
    const MatrixView<const float> X(images, n, pixels), H(h_.data(), n, inner_), inner = hidden_ > 0 ? H : X;
    const MatrixView<float> dH(d_h_.data(), n, inner_);
    const std::size_t out = params().size() - 2;
    if (see) see(out, inner, d_logits);
    nn::bias_backward<float>(ctx, d_logits, 0.0f, grads()[out + 1].view());
    nn::linear_backward(ctx, dense(params()[out]), inner, d_logits, hidden_ > 0 ? dH : MatrixView<float>(), 0.0f,
                        grads()[out].values());
    if (hidden_ == 0) return;
    map(ctx, RectifyBackward{}, VectorView<float>(dH.data(), dH.size()), VectorView<const float>(H.data(), H.size()));
    if (see) see(0, X, dH);
    nn::bias_backward<float>(ctx, dH, 0.0f, grads()[1].view());
    nn::linear_backward(ctx, dense(params()[0]), X, dH, {}, 0.0f, grads()[0].values());
  }

  std::uint64_t seed_;
  Index hidden_, inner_;
  Images images_, test_images_;
  std::vector<std::int32_t> labels_, test_labels_, targets_;
  Buffer<float> x_, h_, d_h_, logits_, values_, gradient_;
};

}  // namespace

std::unique_ptr<OptimTask> language_task(const Config& config, const std::string& text, Index batch,
                                         std::uint64_t seed) {
  return std::make_unique<LanguageTask>(config, text, batch, seed);
}

std::unique_ptr<OptimTask> mnist_task(const std::string& file, Index hidden, Index batch, std::uint64_t seed) {
  return std::make_unique<MnistTask>(file, hidden, batch, seed);
}

}  // namespace lm
