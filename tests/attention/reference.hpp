/// Problems for attention, and what is expected of it: the softmax in double and how far rounding may take it.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <tessera/attention/score_mod.hpp>
#include <tessera/core/buffer.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/kernels/attention/attention.hpp>

#include "support/oracle.hpp"

namespace tessera::test {

/// Whole numbers drawn one after another.
class Draws {
 public:
  explicit Draws(std::uint64_t seed) : stream_(seed) {}
  Index operator()(Index least, Index most) const {
    return least + static_cast<Index>(stream_.below(next_++, static_cast<std::uint64_t>(most - least + 1)));
  }

 private:
  Philox stream_;
  mutable std::uint64_t next_ = 0;
};

/// Any mask or score-mod as one type, so that attention is compiled once for all of them.
struct AnyMask {
  AnyMask() : sees([](const ScorePosition&) { return true; }) {}
  template <class M>
  requires(!std::same_as<M, AnyMask>) explicit AnyMask(M mask) : sees(mask) {
    if constexpr (requires(const ScoreBlock& b) { mask.block(b); })
      of_block = [mask](const ScoreBlock& b) { return mask.block(b); };
  }
  bool operator()(const ScorePosition& at) const { return sees(at); }
  Seen block(const ScoreBlock& b) const { return of_block ? of_block(b) : Seen::some; }
  std::function<bool(const ScorePosition&)> sees;
  std::function<Seen(const ScoreBlock&)> of_block;
};

struct AnyMod {
  AnyMod() = default;
  template <class M>
  requires(!std::same_as<M, AnyMod>) explicit AnyMod(M mod)
      : single([mod](float s, const ScorePosition& at) { return mod(s, at); }),
        exact([mod](double s, const ScorePosition& at) { return mod(s, at); }) {
    if constexpr (requires(const ScorePosition& at) { mod.derivative(1.0, at); })
      slope = [mod](double s, const ScorePosition& at) { return mod.derivative(s, at); };
  }
  template <class T>
  T operator()(T score, const ScorePosition& at) const {
    if (!exact) return score;
    if constexpr (std::same_as<T, float>)
      return single(score, at);
    else
      return exact(score, at);
  }
  template <class T>
  T derivative(T score, const ScorePosition& at) const {
    return slope ? static_cast<T>(slope(static_cast<double>(score), at)) : T(1);
  }
  std::function<float(float, const ScorePosition&)> single;
  std::function<double(double, const ScorePosition&)> exact, slope;
};

struct AttentionShape {
  Index heads = 1, kv_heads = 1, n = 1, m = 1, d = 1, dv = 1;
  std::string text() const { return detail::concat(heads, "h", kv_heads, "kv n", n, " m", m, " d", d, " dv", dv); }
};

template <class T>
struct AttentionProblem {
  AttentionProblem(const AttentionShape& s, std::uint64_t seed)
      : shape(s),
        q(random_buffer<T>(s.heads * s.n * s.d, 3 * seed)),
        k(random_buffer<T>(s.kv_heads * s.m * s.d, 3 * seed + 1)),
        v(random_buffer<T>(s.kv_heads * s.m * s.dv, 3 * seed + 2)),
        o(s.heads * s.n * s.dv),
        l(s.heads * s.n),
        e(s.heads * s.n) {
    std::fill(o.begin(), o.end(), std::numeric_limits<T>::quiet_NaN());
    for (auto& x : q) x *= 4;
  }
  View<const T, 3> Q() const { return {q.data(), {shape.heads, shape.n, shape.d}}; }
  View<const T, 3> K() const { return {k.data(), {shape.kv_heads, shape.m, shape.d}}; }
  View<const T, 3> V() const { return {v.data(), {shape.kv_heads, shape.m, shape.dv}}; }
  View<T, 3> out() { return {o.data(), {shape.heads, shape.n, shape.dv}}; }
  View<T, 2> lse() { return {l.data(), {shape.heads, shape.n}}; }
  View<T, 2> entropy() { return {e.data(), {shape.heads, shape.n}}; }

  AttentionShape shape;
  Buffer<T> q, k, v, o, l, e;
};

/// With u the unit roundoff, A the largest Σ|q||k|·scale and B the largest |score| after mods, whose slopes are at most
/// 1: a score is off by γ_(d+2)·A + 8u·B, the two scores of an exponent's difference and its rounding make twice that,
/// exponentials 4u a tile, sums (m + 8)·u; the quotient doubles it. The entropy's Σ p·|log p| moves as far, and by
/// Σ|dp|.
template <class T>
class AttentionExpectation {
 public:
  template <class Mod, class Mask>
  AttentionExpectation(const AttentionProblem<T>& p, const Mod& mod, const Mask& mask) : shape_(p.shape) {
    const auto& s = shape_;
    const double scale = 1 / std::sqrt(static_cast<double>(s.d));
    for (Index h = 0; h < s.heads; ++h)
      for (Index i = 0; i < s.n; ++i) row(p, mod, mask, scale, h, i);
  }

  /// What a kernel may round besides, for head h and query i: scores by `score`, weights by `weight` of themselves, and
  /// channel c of the result by `out`.
  struct Slack {
    std::function<double(Index, Index)> score = [](Index, Index) { return 0.0; };
    double weight = 0;
    std::function<double(Index, Index, Index)> out = [](Index, Index, Index) { return 0.0; };
  };

  void compare(AttentionProblem<T>& p) const { compare(p, Slack{}); }
  void compare(AttentionProblem<T>& p, const Slack& slack) const {
    std::size_t r = 0;
    for (Index h = 0; h < shape_.heads; ++h)
      for (Index i = 0; i < shape_.n; ++i, ++r) {
        Row x = rows_[r];
        const double moved = std::expm1(2 * slack.score(h, i));
        x.weight += (1 + x.weight) * moved;
        const double lse = static_cast<double>(p.lse()(h, i)), entropy = static_cast<double>(p.entropy()(h, i));
        if (x.lse == -std::numeric_limits<double>::infinity()) {
          ASSERT_EQ(lse, x.lse) << h << ", " << i;
          ASSERT_EQ(entropy, 0) << h << ", " << i;
        } else {
          ASSERT_NEAR(lse, x.lse, x.weight + 2 * u * std::abs(x.lse)) << h << ", " << i;
          ASSERT_NEAR(entropy, x.entropy, x.weight * (2 + x.entropy) + 8 * u * (1 + x.entropy)) << h << ", " << i;
        }
        for (Index c = 0; c < shape_.dv; ++c)
          ASSERT_NEAR(static_cast<double>(p.out()(h, i, c)), x.out[static_cast<std::size_t>(c)],
                      (x.weight + (1 + x.weight) * slack.weight) * x.size[static_cast<std::size_t>(c)] +
                          (1 + x.weight) * slack.out(h, i, c) + 1e-38)
              << h << ", " << i << ", " << c;
      }
  }

 private:
  static constexpr double u = static_cast<double>(std::numeric_limits<T>::epsilon()) / 2;
  struct Row {
    double lse, entropy, weight;
    std::vector<double> out, size;
  };

  template <class Mod, class Mask>
  void row(const AttentionProblem<T>& p, const Mod& mod, const Mask& mask, double scale, Index h, Index i) {
    const auto& s = shape_;
    const Index g = h / (s.heads / s.kv_heads);
    std::vector<std::pair<Index, double>> seen;
    double top = -std::numeric_limits<double>::infinity(), raw = 0, modded = 0, total = 0;
    for (Index j = 0; j < s.m; ++j) {
      const ScorePosition at{h, i, j, s.m - s.n + i};
      if (!mask(at)) continue;
      double dot = 0, absolute = 0;
      for (Index c = 0; c < s.d; ++c) {
        const double term = static_cast<double>(p.Q()(h, i, c)) * static_cast<double>(p.K()(g, j, c)) * scale;
        dot += term;
        absolute += std::abs(term);
      }
      const double score = mod(dot, at);
      seen.emplace_back(j, score);
      top = std::max(top, score);
      raw = std::max(raw, absolute);
      modded = std::max({modded, std::abs(score), std::abs(score - dot)});
    }
    for (const auto& [j, score] : seen) total += std::exp(score - top);
    Row made{seen.empty() ? top : top + std::log(total), 0, 0, {}, {}};
    const double d = static_cast<double>(s.d), m = static_cast<double>(s.m);
    made.weight = std::expm1(2 * u * ((2 * (d + 2) + 6) * raw + 16 * modded + 4 * (m / 64 + 4) + m + 8));
    made.out.assign(static_cast<std::size_t>(s.dv), 0);
    made.size = made.out;
    for (const auto& [j, score] : seen) {
      const double weight = std::exp(score - made.lse);
      if (weight > 0) made.entropy -= weight * (score - made.lse);
      for (Index c = 0; c < s.dv; ++c) {
        const double term = weight * static_cast<double>(p.V()(g, j, c));
        made.out[static_cast<std::size_t>(c)] += term;
        made.size[static_cast<std::size_t>(c)] += std::abs(term);
      }
    }
    rows_.push_back(std::move(made));
  }

  AttentionShape shape_;
  std::vector<Row> rows_;
};

/// Runs f for every attention kernel that this processor has, forced.
template <class T, class F>
void for_each_attention_kernel(F&& f) {
  for (const auto& kernel : AttentionKernels<T>::template entries<AttentionArgs<T>>()) {
    if (!kernel.accepts(AttentionArgs<T>{})) {
      std::printf("[ skipped  ] %s: %s\n", std::string(kernel.name).c_str(),
                  kernel.why_not(AttentionArgs<T>{}).c_str());
      continue;
    }
    SCOPED_TRACE(kernel.name);
    Context ctx;
    ctx.force(kernel.name);
    f(ctx);
  }
}

}  // namespace tessera::test
