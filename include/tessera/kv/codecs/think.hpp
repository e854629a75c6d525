/// Keys without the channels that queries hardly use.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <string_view>
#include <utility>
#include <vector>

#include <tessera/core/error.hpp>
#include <tessera/core/order.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kv/codecs/latent.hpp>
#include <tessera/kv/codecs/plain.hpp>
#include <tessera/kv/codecs/recent.hpp>
#include <tessera/matrix/gather.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// Of each kv head, the `kept` channels c of the largest Σ_i q_ic² · Σ_t k_tc², ascending; the earlier of equals, NaN
/// last.
/// Queries of the heads that share a kv head add up. O(heads·n·d). Throws shape_error for queries and keys that do not
/// fit each other, unsupported_error unless 1 <= kept <= d.
inline std::vector<std::vector<Index>> think_channels(View<const float, 3> queries,  // (heads, n_q, d)
                                                      View<const float, 3> keys,     // (kv_heads, n, d)
                                                      Index kept) {
  const Index kv_heads = keys.extent(0), d = keys.extent(2);
  if (kv_heads < 1 || queries.extent(0) % kv_heads != 0 || queries.extent(2) != d)
    throw shape_error(tessera::detail::concat("tessera: think_channels of queries of ", queries.extent(0), " heads of ",
                                              queries.extent(2), " channels and keys of ", kv_heads, " of ", d,
                                              "; expected heads that these divide, of as many channels"));
  if (kept < 1 || kept > d)
    throw unsupported_error(
        tessera::detail::concat("tessera: think_channels: ", kept, " of ", d, " channels; expected 1 to ", d));
  const Index group = queries.extent(0) / kv_heads;
  const auto squares = [&](const View<const float, 3>& rows, Index first, Index count) {
    std::vector<double> sum(static_cast<std::size_t>(d));
    for (Index h = first; h < first + count; ++h)
      for (Index i = 0; i < rows.extent(1); ++i)
        for (Index c = 0; c < d; ++c)
          sum[static_cast<std::size_t>(c)] += static_cast<double>(rows(h, i, c)) * static_cast<double>(rows(h, i, c));
    return sum;
  };
  std::vector<std::vector<Index>> channels;
  for (Index h = 0; h < kv_heads; ++h) {
    auto score = squares(queries, h * group, group);
    const auto of_keys = squares(keys, h, 1);
    for (std::size_t c = 0; c < score.size(); ++c) score[c] *= of_keys[c];
    std::vector<Index> order(score.size());
    std::iota(order.begin(), order.end(), Index{0});
    const double* const by = score.data();
    std::sort(order.begin(), order.end(), tessera::detail::FallingScores{by});
    order.resize(static_cast<std::size_t>(kept));
    std::sort(order.begin(), order.end());
    channels.push_back(std::move(order));
  }
  return channels;
}

/// Y. Xu et al., "ThinK: Thinner Key Cache by Query-Driven Pruning" (2024), §3: keys of these channels alone by `C`,
/// the latest in f32 with all of them; values by `C`. Queries are picked from once, nothing is put back. C's bytes of
/// as many numbers, 4·d of a key in the window (between `window` and window + group - 1 of the latest). The channels
/// are fixed before the first token: a prompt's are read from where its keys are, and it is appended here.
template <Codec C = F16>
struct Think {
 private:
  static constexpr auto text = detail::joined<6 + C::name.size()>("think ", C::name);

 public:
  static constexpr std::string_view name{text.data(), text.size()};
  std::vector<std::vector<Index>> channels;  // of each kv head, or one for all: think_channels
  Index window = 32, group = 16;
  C codec = detail::windowless<C>();

  /// Throws shape_error unless channels are as many as heads, or one.
  void check(Index kv_heads) const {
    detail::check_maps(channels.size(), kv_heads, "channels");
    detail::check_codec(codec, kv_heads);
  }
  /// Throws shape_error unless channels are of d; unsupported_error where one is twice.
  template <class Storage>
  auto keys(Index d, Index kv_head) const {
    const auto& own = detail::map_of_head(channels, kv_head, "channels");
    for (std::size_t i = 1; i < own.size(); ++i)
      if (own[i] <= own[i - 1])
        throw unsupported_error(tessera::detail::concat("tessera: Think: channel ", own[i], " after ", own[i - 1],
                                                        "; expected them to ascend"));
    if (own.empty()) throw unsupported_error("tessera: Think of no channels; expected one");
    LatentRows rows(OrthogonalMap(Gather<float>(d, own)),
                    detail::row_store<KvPart::keys, Storage>(codec, static_cast<Index>(own.size()), kv_head), d);
    return detail::windowed<Storage>("Think", std::move(rows), d, group, window);
  }
  template <class Storage>
  auto values(Index d, Index kv_head) const {
    return detail::row_store<KvPart::values, Storage>(codec, d, kv_head);
  }
};

}  // namespace tessera::inline TESSERA_ABI::kv
