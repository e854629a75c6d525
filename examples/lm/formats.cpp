#include "formats.hpp"

#include <Eigen/SVD>
#include <algorithm>
#include <memory>
#include <tessera/expr/expr.hpp>
#include <tessera/kv/kv.hpp>
#include <tessera/matrix/dense.hpp>
#include <tessera/matrix/low_rank.hpp>
#include <tessera/matrix/quantized.hpp>
#include <utility>

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

template <class Codec>
KvFormat kv_format(std::string name, Codec codec, std::function<void(Context&, kv::KvCacheBase&)> compress = {}) {
  return {std::move(name),
          [codec](Index kv_heads, Index head_dim) {
            return std::make_unique<kv::KvCache<Codec>>(kv_heads, head_dim, codec);
          },
          std::move(compress)};
}

/// Applies `policy` whenever a head holds `most` tokens.
template <class Policy>
auto whenever(Index most, Policy policy) {
  return [most, policy](Context& ctx, kv::KvCacheBase& cache) {
    if (cache.size(0) >= most) cache.compress(ctx, policy);
  };
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
      quantized<tessera::Q4_0>("int4")};
}

std::vector<KvFormat> kv_formats(Index context) {
  const Index half = std::max<Index>(context / 2, 8), window = context / 4;
  const auto recent_only = whenever(1, kv::window({.sinks = 4, .recent = std::max<Index>(window - 4, 1)}));
  const auto halved = whenever(
      half, kv::score(kv::KeyNorm{}) | kv::protect(kv::sinks(4), kv::recent(half / 4)) | kv::keep(0.5) | kv::evict());
  return {kv_format("f32", kv::F32{}),
          kv_format("bf16", kv::Bf16{}),
          kv_format("int8", kv::Int8{}),
          kv_format("int4", kv::Kivi<4>{}),
          kv_format("int2", kv::Kivi<2>{}),
          kv_format("window", kv::F32{}, recent_only),
          kv_format("key-norm", kv::F32{}, halved),
          kv_format("key-norm int8", kv::Int8{}, halved),
          kv_format("key-norm int4", kv::Kivi<4>{}, halved)};
}

}  // namespace lm
