/// Masks drawn at random before training, with densities shared out between layers.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include <tessera/compress/mask.hpp>
#include <tessera/core/rng.hpp>

namespace tessera::inline TESSERA_ABI {

/// A weight as layers of a network are counted: (out, in), and for convolutions the kernel's sides.
struct LayerShape {
  Index out = 0, in = 0, height = 1, width = 1;
  /// Throws shape_error for sides below 0 and more entries than an Index counts.
  Index size() const {
    Index entries = 1;
    bool counts = true;
    for (const Index side : {out, in, height, width})
      counts = counts && side >= 0 && !__builtin_mul_overflow(entries, side, &entries);
    if (!counts)
      throw shape_error(detail::concat("tessera: LayerShape ", detail::shape_text(out, in), " of kernels ",
                                       detail::shape_text(height, width),
                                       ": expected sides of 0 or more, and entries that an index counts"));
    return entries;
  }
};

/// How many entries each layer keeps so that together they keep round(density·all), proportionally to `ratio` of its
/// size but never more than it has: what a full layer cannot take goes to the others (U. Evci et al., RigL, appendix E
/// of the ICML 2020 paper). The total is exact. Throws unsupported_error for a density outside [0,1], ratios that are
/// not positive, or more than 2^53 entries in all.
inline std::vector<Index> shared_counts(std::span<const Index> sizes, std::span<const double> ratio, double density) {
  double all = 0;
  for (std::size_t l = 0; l < sizes.size(); ++l) {
    if (sizes.size() != ratio.size() || !(ratio[l] > 0 && ratio[l] <= 1e100) || sizes[l] < 0)
      throw unsupported_error(detail::concat("tessera: shared_counts of ", sizes.size(), " layers with ", ratio.size(),
                                             " ratios: expected a positive one a layer, at most 1e100"));
    all += static_cast<double>(sizes[l]);
    if (all > 0x1p53)
      throw unsupported_error(detail::concat("tessera: shared_counts of ", sizes.size(), " layers, the first ", l + 1,
                                             " of more than 2^53 entries: expected at most that, which doubles count"));
  }
  const Index total = detail::kept_of("shared_counts", density, static_cast<Index>(all));
  std::vector<double> wanted(sizes.size());
  std::vector<bool> full(sizes.size());
  for (bool again = true; again;) {
    again = false;
    double free = static_cast<double>(total), weight = 0;
    for (std::size_t l = 0; l < sizes.size(); ++l)
      (full[l] ? free : weight) += full[l] ? -static_cast<double>(sizes[l]) : ratio[l] * static_cast<double>(sizes[l]);
    for (std::size_t l = 0; l < sizes.size(); ++l) {
      if (full[l]) continue;
      wanted[l] = weight > 0 ? free / weight * ratio[l] * static_cast<double>(sizes[l]) : 0.0;
      if (wanted[l] > static_cast<double>(sizes[l])) {
        wanted[l] = static_cast<double>(sizes[l]);
        full[l] = again = true;
      }
    }
  }
  std::vector<Index> count(sizes.size());
  std::vector<std::size_t> order(sizes.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  Index left = total;
  for (std::size_t l = 0; l < sizes.size(); ++l) {
    count[l] = std::min(sizes[l], static_cast<Index>(wanted[l]));
    left -= count[l];
  }
  const auto rest = [&](std::size_t l) { return wanted[l] - static_cast<double>(count[l]); };
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return rest(a) != rest(b) ? rest(a) > rest(b) : a < b; });
  for (std::size_t i = order.size(); left < 0; i = i == 0 ? order.size() : i)  // where quotients were rounded up
    if (Index& last = count[order[--i]]; last > 0) {
      --last;
      ++left;
    }
  while (left > 0)  // the largest fractions round up
    for (const std::size_t l : order)
      if (left > 0 && count[l] < sizes[l]) {
        ++count[l];
        --left;
      }
  return count;
}

/// Entries a layer keeps with densities proportional to (in + out + height + width)/(in·out·height·width): small layers
/// stay denser. D. Mocanu et al., "Scalable Training of Artificial Neural Networks with Adaptive Sparse Connectivity"
/// (2018); the kernel's sides by U. Evci et al. (2020).
inline std::vector<Index> erdos_renyi_counts(std::span<const LayerShape> layers, double density) {
  std::vector<Index> sizes;
  std::vector<double> ratio;
  for (const auto& l : layers) {
    sizes.push_back(l.size());
    const auto in = static_cast<double>(l.in), out = static_cast<double>(l.out);
    const auto height = static_cast<double>(l.height), width = static_cast<double>(l.width);
    ratio.push_back((in + out + (height * width > 1 ? height + width : 0)) /
                    static_cast<double>(std::max<Index>(sizes.back(), 1)));
  }
  return shared_counts(sizes, ratio, density);
}

/// Entries a layer keeps at one density for all.
inline std::vector<Index> uniform_counts(std::span<const LayerShape> layers, double density) {
  std::vector<Index> sizes;
  for (const auto& l : layers) sizes.push_back(l.size());
  return shared_counts(sizes, std::vector<double>(sizes.size(), 1.0), density);
}

/// Exactly `kept` places, every choice as likely. S. Liu et al., "The Unreasonable Effectiveness of Random Pruning:
/// Return of the Most Naive Baseline for Sparse Training" (ICLR 2022): such masks with counts as above, or with the
/// ratios of another method (`shared_counts`), before training. O(MN). Throws unsupported_error.
inline Mask random_mask(Index rows, Index cols, Index kept, std::uint64_t seed) {
  Mask mask(rows, cols, false);
  if (kept < 0 || kept > mask.size())
    throw unsupported_error(detail::concat("tessera: random_mask of ", kept, " of (", detail::shape_text(rows, cols),
                                           "); expected 0 to ", mask.size()));
  const Philox draws(seed);
  Index left = kept;
  for (Index p = 0; left > 0; ++p)  // D. Knuth's selection sampling
    if (static_cast<Index>(draws.below(static_cast<std::uint64_t>(p), static_cast<std::uint64_t>(mask.size() - p))) <
        left) {
      mask.set(p, true);
      --left;
    }
  return mask;
}

}  // namespace tessera::inline TESSERA_ABI
