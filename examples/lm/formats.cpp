#include "formats.hpp"

#include <Eigen/SVD>
#include <algorithm>
#include <map>
#include <memory>
#include <span>
#include <tessera/expr/expr.hpp>
#include <tessera/matrix/dense.hpp>
#include <tessera/matrix/low_rank.hpp>
#include <tessera/matrix/quantized.hpp>
#include <tessera/quant/quantize.hpp>
#include <tessera/quant/quantizers/awq.hpp>
#include <tessera/quant/quantizers/bit_stack_quantizer.hpp>
#include <tessera/quant/quantizers/gptq.hpp>
#include <tessera/quant/quantizers/hawq.hpp>
#include <tessera/quant/quantizers/lq_lora.hpp>
#include <tessera/quant/quantizers/quantease.hpp>
#include <tessera/quant/quantizers/quantease_outliers.hpp>
#include <tessera/quant/quantizers/rotated.hpp>
#include <utility>

#include "finetune.hpp"

namespace lm {

namespace {

/// U (out, r) and V (in, r) with W ≈ U Vᵀ best in the Frobenius norm: the truncated SVD, √σ on either side.
struct Factors {
  Eigen::MatrixXf U, V;
};
Factors best_low_rank(MatrixView<const float> W, Index rank) {
  const Eigen::BDCSVD<Eigen::MatrixXf> svd(Eigen::MatrixXf(tessera::Dense<float>(W).to_dense()),
                                           Eigen::ComputeThinU | Eigen::ComputeThinV);
  const Eigen::VectorXf root = svd.singularValues().head(rank).cwiseSqrt();
  return {svd.matrixU().leftCols(rank) * root.asDiagonal(), svd.matrixV().leftCols(rank) * root.asDiagonal()};
}

/// A rank as a fraction of the smaller side.
Index rank_of(MatrixView<const float> W, double fraction) {
  const Index side = std::min(W.rows(), W.cols());
  return std::clamp<Index>(static_cast<Index>(fraction * static_cast<double>(side)), 1, side);
}

auto bf16_low_rank(const Factors& f) {
  return tessera::low_rank(tessera::Dense<tessera::bf16>(f.U), tessera::Dense<tessera::bf16>(f.V));
}

template <class Format>
WeightFormat quantized(std::string name) {
  return {std::move(name), [](Context& ctx, MatrixView<const float> W) {
            return AnyOperator<float>(tessera::quantize<Format>(ctx, W));
          }};
}

/// Q4_K, or Q5_0 where rows are no whole blocks of 256: what writers of GGUF files do.
AnyOperator<float> four_bits_of_256(Context& ctx, MatrixView<const float> W) {
  if (W.cols() % tessera::Q4_K::block_size != 0) return AnyOperator<float>(tessera::quantize<tessera::Q5_0>(ctx, W));
  return AnyOperator<float>(tessera::quantize<tessera::Q4_K>(ctx, W));
}

WeightFormat low_rank_weights(std::string name, double fraction) {
  return {std::move(name), [fraction](Context&, MatrixView<const float> W) {
            return AnyOperator<float>(bf16_low_rank(best_low_rank(W, rank_of(W, fraction))));
          }};
}

/// W ≈ U Vᵀ + Q: the large directions in bf16, what they leave in 4 bits.
WeightFormat low_rank_and_int4(std::string name, double fraction) {
  return {std::move(name), [fraction](Context& ctx, MatrixView<const float> W) {
            auto factors = bf16_low_rank(best_low_rank(W, rank_of(W, fraction)));
            const tessera::Dense<float> rest(tessera::Dense<float>(W).to_dense() - factors.to_dense());
            return AnyOperator<float>(std::move(factors) + tessera::quantize<tessera::Q4_0>(ctx, rest.view()));
          }};
}

/// What each linear layer saw, by where its weights lie.
using Calibrations = std::map<const float*, tessera::Calibration>;

/// W that keeps what it is multiplied by.
class Recorder : public tessera::OperatorBase<Recorder> {
 public:
  using Scalar = float;
  Recorder(MatrixView<const float> W, tessera::Calibration& seen) : W_(W), seen_(&seen) {}
  Index rows() const { return W_.rows(); }
  Index cols() const { return W_.cols(); }
  void apply(Context& ctx, tessera::Op op, float alpha, MatrixView<const float> X, float beta,
             MatrixView<float> Y) const {
    if (op == tessera::Op::none) seen_->add(ctx, X);
    W_.apply(ctx, op, alpha, X, beta, Y);
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    W_.for_each_buffer(f);
  }

 private:
  tessera::DenseView<float> W_;
  tessera::Calibration* seen_;
};

Calibrations calibrate(Context& ctx, const Model& model, const std::vector<std::vector<std::int32_t>>& documents,
                       Index tokens) {
  Calibrations seen;
  const WeightFormat recording{"recording",
                               [&](Context&, MatrixView<const float> W) {
                                 auto& calibration = seen.try_emplace(W.data(), W.cols()).first->second;
                                 return AnyOperator<float>(Recorder(W, calibration));
                               },
                               false};
  const Network network(ctx, model, recording);
  const auto caches = kv_formats(model.config.context);
  Decoder decoder(network, caches.front());
  Buffer<float> logits(model.config.vocab);
  std::vector<std::span<const std::int32_t>> all;
  const auto context = static_cast<std::size_t>(model.config.context);
  for (const auto& document : documents)
    for (std::size_t begin = 0; begin < document.size(); begin += context)
      all.push_back(std::span(document).subspan(begin, std::min(context, document.size() - begin)));
  // Every so many windows: all kinds of text, not what comes first.
  const auto wanted = static_cast<std::size_t>(std::max<Index>(tokens / model.config.context, 1));
  const std::size_t step = std::max<std::size_t>(all.size() / wanted, 1);
  Index read = 0;
  for (std::size_t w = 0; w < all.size() && read < tokens; w += step) {
    decoder.restart();
    decoder.read(ctx, all[w], {logits.data(), 1, logits.size()});
    read += static_cast<Index>(all[w].size());
  }
  if (read == 0) throw tessera::format_error("no text to calibrate on; expected documents that are not empty");
  return seen;
}

template <class Format, class Quantizer>
WeightFormat calibrated(std::string name, const std::shared_ptr<const Calibrations>& seen, Quantizer quantizer) {
  return {std::move(name), [seen, quantizer](Context& ctx, MatrixView<const float> W) {
            return AnyOperator<float>(tessera::quantize<Format>(ctx, W, seen->at(W.data()), quantizer).matrix);
          }};
}

/// int8 or int4, layer by layer, in the bytes of `share` of the way from all in int4 to all in int8: by the top
/// eigenvalue of the Hessian of the layer's output error and what rounding to either loses.
WeightFormat mixed_precision(Context& ctx, std::string name, const Model& model,
                             const std::shared_ptr<const Calibrations>& seen, double share) {
  std::vector<tessera::LayerSensitivity> layers;
  std::vector<std::vector<tessera::PrecisionChoice>> choices;
  std::vector<const float*> where;
  std::size_t least = 0, most = 0;
  const auto visit = [&](MatrixView<const float> W) {
    const auto& calibration = seen->at(W.data());
    const auto choice = [&](const auto& made) {
      const double lost = made.report.weight_error * tessera::Dense<float>(W).to_dense().template cast<double>().norm();
      return tessera::PrecisionChoice{made.report.bytes, lost * lost};
    };
    const tessera::RoundToNearest nearest;
    choices.push_back({choice(tessera::quantize<tessera::Q4_0>(ctx, W, calibration, nearest)),
                       choice(tessera::quantize<tessera::Q8_0>(ctx, W, calibration, nearest))});
    least += choices.back()[0].bytes;
    most += choices.back()[1].bytes;
    const Eigen::MatrixXd H = calibration.gram() / static_cast<double>(calibration.samples());
    const auto top =
        tessera::top_eigenvalue(H.rows(), [&](const Eigen::VectorXd& v) { return Eigen::VectorXd(H * v); });
    layers.push_back({top.value, W.size()});
    where.push_back(W.data());
  };
  for (const auto& l : model.tensors().layers)
    for (const auto& W : {l.wq, l.wk, l.wv, l.wo, l.w1, l.w2, l.w3}) visit(W);
  const auto made =
      tessera::hawq_bits(layers, choices, least + static_cast<std::size_t>(share * static_cast<double>(most - least)));
  std::map<const float*, bool> wide;
  for (std::size_t i = 0; i < where.size(); ++i) wide[where[i]] = made.choice[i] == 1;
  return {std::move(name), [wide](Context& worker, MatrixView<const float> W) {
            return wide.at(W.data()) ? AnyOperator<float>(tessera::quantize<tessera::Q8_0>(worker, W))
                                     : AnyOperator<float>(tessera::quantize<tessera::Q4_0>(worker, W));
          }};
}

/// As many sign planes of every matrix as fit in `share` of its bytes in f32. The stacks are made once, for the rows of
/// every share that `stacks` is handed to; they share their planes.
using Stacks = std::map<const float*, tessera::BitStack>;

WeightFormat bit_stack(std::string name, const std::shared_ptr<const Calibrations>& seen,
                       const std::shared_ptr<Stacks>& stacks, double share) {
  return {std::move(name), [=](Context& ctx, MatrixView<const float> W) {
            auto made = stacks->find(W.data());
            if (made == stacks->end()) {
              const tessera::BitStackQuantizer quantizer{.blocks = 4, .rank = 2};
              made = stacks->emplace(W.data(), quantizer.quantize(ctx, W, seen->at(W.data())).matrix).first;
            }
            const double bytes = share * 4 * static_cast<double>(W.size());
            return AnyOperator<float>(made->second.within(static_cast<std::size_t>(bytes)));
          }};
}

}  // namespace

std::vector<WeightFormat> weight_formats() {
  return {
      {"f32", [](Context&, MatrixView<const float> W) { return AnyOperator<float>(tessera::Dense<float>(W)); }, false},
      {"bf16",
       [](Context&, MatrixView<const float> W) { return AnyOperator<float>(tessera::Dense<tessera::bf16>(W)); }},
      low_rank_weights("low-rank 1/2", 0.5),
      quantized<tessera::Q8_0>("int8"),
      low_rank_and_int4("low-rank 1/16 + int4", 1.0 / 16),
      low_rank_weights("low-rank 1/4", 0.25),
      {"Q4_K", four_bits_of_256},
      quantized<tessera::NF4>("NF4"),
      quantized<tessera::Q4_0>("int4")};
}

std::vector<WeightFormat> calibrated_weight_formats(Context& ctx, const Model& model,
                                                    const std::vector<std::vector<std::int32_t>>& documents,
                                                    Index finetune, Index tokens) {
  using tessera::Q4_0;
  const auto seen = std::make_shared<const Calibrations>(calibrate(ctx, model, documents, tokens));
  const tessera::QuantEase damped{.damping = 0.01};
  const auto stacks = std::make_shared<Stacks>();
  std::vector<WeightFormat> all{
      mixed_precision(ctx, "int8 and int4, HAWQ", model, seen, 0.25),
      calibrated<Q4_0>("LQ-LoRA 4", seen, tessera::LqLora<>{.rank = 4, .rounds = 5, .data_aware = true}),
      calibrated<Q4_0>("QuantEase, 1% f32", seen, tessera::OutlierQuantEase{.inner = {.sweeps = 3, .damping = 0.01}}),
      calibrated<Q4_0>("AWQ", seen, tessera::Awq<>{}),
      calibrated<Q4_0>("rotated QuantEase", seen, tessera::Rotated<tessera::QuantEase>{.inner = damped}),
      calibrated<Q4_0>("GPTQ", seen, tessera::Gptq{}),
      calibrated<Q4_0>("QuantEase", seen, damped),
      calibrated<tessera::GroupAffine<2, 64>>(
          "2 bits, 2% f32", seen,
          tessera::OutlierQuantEase{.outliers = 0.02, .rounds = 5, .inner = {.sweeps = 3, .damping = 0.01}}),
      bit_stack("BitStack 1/4", seen, stacks, 0.25),
      bit_stack("BitStack 3/16", seen, stacks, 0.1875),
      bit_stack("BitStack 1/8", seen, stacks, 0.125)};
  const auto structured = structured_weight_formats(
      model, [seen](MatrixView<const float> W) -> const Eigen::MatrixXd& { return seen->at(W.data()).gram(); },
      documents, finetune);
  all.insert(all.end(), structured.begin(), structured.end());
  return all;
}

}  // namespace lm
