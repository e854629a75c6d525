// Your own masks and score-mods: function objects that attention asks for each score, or for a whole block at once.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <span>
#include <tessera/attention/attention.hpp>
#include <tessera/attention/masks.hpp>
#include <tessera/core/rng.hpp>
#include <vector>

using namespace tessera;  // NOLINT(google-build-using-namespace)

// A score-mod. ALiBi whose penalty grows with the logarithm of the distance, so that far tokens are not out of reach
// (Chi et al., "KERPLE" (2022), eq. 10).
struct LogarithmicBias {
  static constexpr bool adds = true;  // its derivative by the score is 1: attention_backward works with it
  float scale, steepness;
  template <class T>
  T operator()(T score, const ScorePosition& at) const {
    const T distance = static_cast<T>(std::abs(at.position - at.key));
    return score - static_cast<T>(scale) * std::log(1 + static_cast<T>(steepness) * distance);
  }
};

// A mask. Tokens see their own document and the instructions that the row begins with. `block` spares work: blocks of
// other documents are neither read nor computed.
struct InstructedDocuments {
  std::span<const Index> document;  // of each token, ascending
  Index instructions;
  Index of(Index token) const { return document[static_cast<std::size_t>(token)]; }
  bool operator()(const ScorePosition& at) const {
    return at.key <= at.position && (at.key < instructions || of(at.key) == of(at.position));
  }
  Seen block(const ScoreBlock& b) const {
    if (b.key >= instructions && of(b.key_end - 1) < of(b.position)) return Seen::none;
    return b.key > b.last_position() ? Seen::none : Seen::some;
  }
};

int main() {
  constexpr Index heads = 4, kv_heads = 2, n = 300, d = 32, instructions = 20;
  const Philox draws(1);
  std::vector<float> Q(heads * n * d), K(kv_heads * n * d), V(K.size()), out(Q.size()), without(Q.size());
  std::vector<Index> document(n);
  for (std::size_t i = 0; i < Q.size(); ++i) Q[i] = static_cast<float>(draws.normal(i));
  for (std::size_t i = 0; i < K.size(); ++i) K[i] = static_cast<float>(draws.normal(Q.size() + i));
  for (std::size_t i = 0; i < V.size(); ++i) V[i] = static_cast<float>(draws.normal(2 * Q.size() + i));
  for (Index t = 0; t < n; ++t) document[static_cast<std::size_t>(t)] = t / 100;

  Context ctx;
  const auto attend = [&](std::vector<float>& to) {
    attention<float>(ctx, View<const float, 3>(Q.data(), {heads, n, d}),
                     View<const float, 3>(K.data(), {kv_heads, n, d}), View<const float, 3>(V.data(), {kv_heads, n, d}),
                     View<float, 3>(to.data(), {heads, n, d}),
                     score_mods(LogarithmicBias{1.0f, 0.5f}, InstructedDocuments{document, instructions}));
  };
  attend(out);

  // Whatever the documents before hold does not reach the last one, and what it is told does.
  for (Index h = 0; h < kv_heads; ++h)
    std::fill_n(V.begin() + (h * n + instructions) * d, (200 - instructions) * d, 7.0f);
  attend(without);
  bool right = true;
  for (Index h = 0; h < heads; ++h)
    right = right && std::equal(out.begin() + (h * n + 200) * d, out.begin() + (h + 1) * n * d,
                                without.begin() + (h * n + 200) * d);
  for (Index h = 0; h < kv_heads; ++h) std::fill_n(V.begin() + h * n * d, d, 7.0f);
  attend(without);
  right = right && out.back() != without.back();
  std::puts(right ? "documents see themselves and their instructions" : "wrong");
  return right ? 0 : 1;
}
