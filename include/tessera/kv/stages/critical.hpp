/// The second half of a selection by what values do to the result.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <limits>
#include <numeric>
#include <vector>

#include <tessera/core/error.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/kv/cache_base.hpp>
#include <tessera/kv/stages/keep.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// Chooses anew as many tokens of each head as the selection before it has: a share `first` of them by score, protected
/// ones among them, the others by (score + epsilon) · |Wo v_t|₁, the norm a mean over the heads that share a kv head.
/// Y. Feng et al., "Identify Critical KV Cache in LLM Inference from an Output Perturbation Perspective" (2025), alg.
/// 1: CriticalKV after `keep`, CriticalAdaKV after `keep_adaptive`. Scores are numbers of at least 0, as attention's.
/// O(n·heads·d·model), 4·(d + 64·model) bytes while it runs.
struct Critical : SelectingStage<Facts::scores | Facts::selection> {
  MatrixView<const float> output;  // Wo: (model, heads·d), as torch's o_proj.weight; must outlive this
  double first = 0.5;
  float epsilon = 1e-4f;

  void check() const {
    if (!(first >= 0 && first <= 1 && epsilon >= 0 && std::isfinite(epsilon)))
      throw unsupported_error(tessera::detail::concat("tessera: critical: the first ", first, " by score and epsilon ",
                                                      epsilon, "; expected 0 to 1 and a number of at least 0"));
  }
  /// Throws shape_error unless Wo has columns of d for as many heads as kv heads divide.
  void check(const StageContext& context) const {
    check();
    const Index d = context.cache.head_dim(), kv_heads = context.cache.kv_heads();
    if (output.cols() == 0 || output.cols() % (kv_heads * d) != 0 || (output.cols() > 1 && output.col_stride() != 1))
      throw shape_error(tessera::detail::concat(
          "tessera: critical: an output projection of ", output.rows(), 'x', output.cols(), " for ", kv_heads,
          " kv heads of ", d, "; expected rows of a multiple of ", kv_heads * d, " contiguous columns"));
  }
  template <std::same_as<StageContext> Context>  // a template: matrix products are compiled where it is used
  void operator()(const Context& context) const {
    check(context);
    const auto unpack = KvCacheBase::unpack_kernel(context.ctx);
    context.for_each_head([&](auto& ctx, Index h) {
      HeadDraft& draft = context.heads[static_cast<std::size_t>(h)];
      const auto budget = static_cast<Index>(draft.kept.size());
      if (budget == draft.tokens) return;
      draft.kept.clear();
      std::vector<float> by_score = draft.score;
      const Index some = static_cast<Index>(std::floor(first * static_cast<double>(budget)));
      std::vector<Index> order;  // what is not protected, which stays anyway
      for (Index j = 0; j < draft.tokens; ++j)
        if (!draft.is_guarded(j)) order.push_back(j);
      const Index beside = std::max<Index>(some - (draft.tokens - static_cast<Index>(order.size())), 0);
      detail::prefer(order, beside, by_score);
      std::vector<float> norm(by_score.size());
      norms(ctx, context.cache, unpack, h, norm);
      for (std::size_t t = 0; t < norm.size(); ++t) {
        if (std::isinf(by_score[t])) continue;
        const float product = (by_score[t] + epsilon) * norm[t];
        draft.score[t] = std::isnan(product) ? -std::numeric_limits<float>::infinity() : product;
      }
      for (Index i = 0; i < beside; ++i)
        draft.score[static_cast<std::size_t>(order[static_cast<std::size_t>(i)])] =
            std::numeric_limits<float>::infinity();
      detail::select_tokens(draft, budget);
      draft.score.swap(by_score);  // what comes later goes by the scores
    });
  }

 private:
  template <class Context>
  void norms(Context& ctx, const KvCacheBase& cache, Unpack unpack, Index h, std::vector<float>& norm) const {
    constexpr Index tile = 64;
    const auto n = static_cast<Index>(norm.size());
    const Index d = cache.head_dim(), model = output.rows(), group = output.cols() / (cache.kv_heads() * d);
    Workspace::Scope scope(ctx.workspace);
    float* const scratch = scope.template take<float>(tile * d);
    float* const product = scope.template take<float>(tile * model);
    for (Index t = 0; t < n; t += tile) {
      const Index count = std::min(tile, n - t);
      const auto rows = cache.rows(KvPart::values, h, t, count, scratch, unpack);
      const MatrixView<float> of(product, count, model);
      for (Index g = 0; g < group; ++g) {
        gemm<float>(ctx, 1, rows, output.slice(1, (h * group + g) * d, d).transposed(), 0, of);
        for (Index i = 0; i < count; ++i) {
          float sum = 0;
          for (Index c = 0; c < model; ++c) sum += std::abs(of(i, c));
          norm[static_cast<std::size_t>(t + i)] += sum / static_cast<float>(group);
        }
      }
    }
  }
};

/// `score(SnapKv{}) | keep(0.25) | critical(Wo) | evict()`. Throws unsupported_error unless `first` is 0 to 1 and
/// epsilon finite and at least 0.
inline Critical critical(MatrixView<const float> output, double first = 0.5, float epsilon = 1e-4f) {
  return detail::checked(Critical{{}, output, first, epsilon});
}

}  // namespace tessera::inline TESSERA_ABI::kv
