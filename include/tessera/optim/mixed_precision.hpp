/// AdamW on subgroups of a model in mixed precision: gradients and parameters in 16 bits, masters and moments in 32.
/// A. Maurya et al., "Deep Optimizer States: Towards Scalable Training of Transformer Models Using Interleaved
/// Offloading" (Middleware 2024), §4: the part on the host; who updates which subgroup is offload_schedule.hpp's.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include <tessera/optim/alias.hpp>
#include <tessera/optim/half_codes.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// A run of parameters, H bf16 or f16; all spans of one length.
template <class H>
struct Subgroup {
  std::span<const H> grad;
  std::span<float> master, mu, nu;
  std::span<H> param;  // written
};

/// `grad_factor` undoes a loss scale or takes a mean.
struct MixedAdamW {
  double rate = 1e-3;
  AdamOptions adam{};
  double weight_decay = 0;
  double grad_factor = 1;
};

/// master ← AdamW's step from grad, param ← master to nearest even, for step `count` (done before: the first is 0). One
/// pass: 14 bytes read and 14 written a parameter, gradients widened and masters narrowed in the first cache. The bits
/// are adamw's on widened gradients, whatever the subgroups, their order and the threads. Throws shape_error.
template <class H>
void adamw_step_subgroup(Context& ctx, const MixedAdamW& o, Index count, const Subgroup<H>& group) {
  const std::size_t n = group.master.size();
  if (group.grad.size() != n || group.mu.size() != n || group.nu.size() != n || group.param.size() != n)
    throw shape_error(tessera::detail::concat("tessera: adamw_step_subgroup: ", n, " masters, ", group.grad.size(),
                                              " gradients, ", group.mu.size(), " and ", group.nu.size(), " moments, ",
                                              group.param.size(), " parameters"));
  const Parameter<float> block("subgroup", group.master);
  const auto links = std::tuple{scale(o.grad_factor), scale_by_adam(o.adam), add_decayed_weights(o.weight_decay),
                                scale_by_learning_rate(o.rate)};
  const auto steps = detail::step_list<0, 4, float>(links, count, block);
  constexpr Index piece = 512;  // with 2048 reads of memory wait for phases of coding
  for_each_chunk(ctx, static_cast<Index>(n), 32 * piece, [&](Context& worker, Index begin, Index end) {
    float wide[piece];
    for (Index from = begin; from < end; from += piece) {
      const Index some = std::min(piece, end - from);
      const auto at = [&](std::span<float> all) { return VectorView<float>(all.data() + from, some); };
      detail::halves::widen(group.grad.data() + from, some, wide);
      map(worker, detail::Apply<std::remove_cvref_t<decltype(steps)>>{steps}, at(group.master),
          VectorView<const float>(wide, some), at(group.mu), at(group.nu));
      detail::halves::narrow(group.master.data() + from, some, group.param.data() + from);
    }
  });
}

/// The subgroups in the order given, which changes no bits: hosts take theirs between transfers.
template <class H>
void adamw_step_subgroups(Context& ctx, const MixedAdamW& o, Index count, std::span<const Subgroup<H>> groups,
                          std::span<const Index> order) {
  for (const Index g : order) adamw_step_subgroup(ctx, o, count, groups[static_cast<std::size_t>(g)]);
}

}  // namespace tessera::inline TESSERA_ABI::optim
