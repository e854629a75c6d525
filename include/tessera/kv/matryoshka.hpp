/// Bases of keys and values whose leading coordinates serve attention, however many of them are kept. Beside kv.hpp,
/// for what it asks of the compiler.
#pragma once

#include <Eigen/Core>
#include <Eigen/LU>
#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kv/calibrate.hpp>
#include <tessera/nn/attention_backward.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// (I + S)(I - S)⁻¹ (d,d), orthogonal for S = -Sᵀ. O(d³). Throws shape_error unless S is square.
inline Eigen::MatrixXd cayley_orthogonal(const Eigen::MatrixXd& S) {
  if (S.rows() != S.cols())
    throw shape_error(tessera::detail::concat("tessera: cayley_orthogonal of ",
                                              tessera::detail::shape_text(S.rows(), S.cols()),
                                              "; expected a square matrix S = -Sᵀ"));
  const Eigen::MatrixXd I = Eigen::MatrixXd::Identity(S.rows(), S.cols());
  return (I - S).transpose().partialPivLu().solve((I + S).transpose()).transpose();
}

/// Orthogonal (d,d) each; what is kept are leading columns: LinearMap::leading(keys.cast<float>(), rank).
struct MatryoshkaBases {
  Eigen::MatrixXd keys, values;
};

/// How train_matryoshka goes down.
struct MatryoshkaOptions {
  Index steps = 100;
  double rate = 0.1;     // of a rotation's size, falling to 0 over the steps
  Index least_rank = 1;  // ranks are drawn from here to d - 1
  std::uint64_t seed = 1;
};

namespace detail {

/// The attention of a sample through leading coordinates, against the attention of all, and how it moves the bases.
template <std::same_as<double> T = double>  // a template, so that only those who train compile attention's gradient
class MatryoshkaSample {
 public:
  using Rows = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

  MatryoshkaSample(Context& ctx, View<const float, 3> Q, MatrixView<const float> K, MatrixView<const float> V)
      : ctx_(&ctx),
        heads_(Q.extent(0)),
        n_(Q.extent(1)),
        m_(K.rows()),
        d_(K.cols()),
        Q_(heads_ * n_, d_),
        K_(m_, d_),
        V_(m_, d_) {
    if (Q.extent(2) != d_ || V.rows() != m_ || V.cols() != d_ || Q.empty() || m_ < n_)
      throw shape_error(tessera::detail::concat("tessera: Matryoshka sample of queries (", heads_, ", ", n_, ", ",
                                                Q.extent(2), "), keys ", tessera::detail::shape_text(m_, d_),
                                                " and values ", tessera::detail::shape_text(V.rows(), V.cols()),
                                                ": expected (heads, n, d), (m, d) and (m, d) with n <= m"));
    for (Index h = 0; h < heads_; ++h)
      for (Index i = 0; i < n_; ++i)
        for (Index c = 0; c < d_; ++c) Q_(h * n_ + i, c) = static_cast<T>(Q(h, i, c));
    for (Index j = 0; j < m_; ++j)
      for (Index c = 0; c < d_; ++c) {
        K_(j, c) = static_cast<T>(K(j, c));
        V_(j, c) = static_cast<T>(V(j, c));
      }
    exact_ = attend(K_, V_);
  }

  const Rows& keys() const { return K_; }
  const Rows& values() const { return V_; }
  Index channels() const { return d_; }

  /// |out - exact|² / |exact|² with the first `key_rank` and `value_rank` coordinates; with `gradient`, its gradient by
  /// both bases.
  double error(const MatryoshkaBases& U, Index key_rank, Index value_rank, MatryoshkaBases* gradient = nullptr) {
    const auto k = U.keys.leftCols(key_rank), v = U.values.leftCols(value_rank);
    const Rows keys = K_ * k * k.transpose(), values = V_ * v * v.transpose();
    const Rows out = attend(keys, values);
    const double size = std::max(exact_.squaredNorm(), std::numeric_limits<double>::min());
    const Rows moved = out - exact_;
    if (gradient != nullptr) {
      Rows d_out = moved * (2 / size), dQ(Q_.rows(), d_), dK(m_, d_), dV(m_, d_);
      nn::attention_backward<T>(*ctx_, queries(Q_), tokens(keys), tokens(values), queries(out),
                                View<const T, 3>(lse_.data(), {1, heads_, n_}), queries(d_out), queries(dQ), tokens(dK),
                                tokens(dV), AttentionOptions{.causal = true});
      gradient->keys.setZero(d_, d_);
      gradient->values.setZero(d_, d_);
      gradient->keys.leftCols(key_rank) = (K_.transpose() * dK + dK.transpose() * K_) * k;
      gradient->values.leftCols(value_rank) = (V_.transpose() * dV + dV.transpose() * V_) * v;
    }
    return moved.squaredNorm() / size;
  }

 private:
  View<const T, 4> queries(const Rows& of) const { return {of.data(), {1, heads_, n_, d_}}; }
  View<T, 4> queries(Rows& of) const { return {of.data(), {1, heads_, n_, d_}}; }
  View<const T, 4> tokens(const Rows& of) const { return {of.data(), {1, 1, m_, d_}}; }
  View<T, 4> tokens(Rows& of) const { return {of.data(), {1, 1, m_, d_}}; }

  Rows attend(const Rows& K, const Rows& V) {
    Rows out(Q_.rows(), d_);
    lse_.resize(static_cast<std::size_t>(heads_ * n_));
    attention<T>(*ctx_, View<const T, 3>(Q_.data(), {heads_, n_, d_}), View<const T, 3>(K.data(), {1, m_, d_}),
                 View<const T, 3>(V.data(), {1, m_, d_}), View<T, 3>(out.data(), {heads_, n_, d_}),
                 AttentionOptions{.causal = true}, View<T, 2>(lse_.data(), {heads_, n_}));
    return out;
  }

  Context* ctx_;
  Index heads_, n_, m_, d_;
  Rows Q_, K_, V_, exact_;
  std::vector<T> lse_;
};

/// U along -G on the orthogonal matrices, by a Cayley step of size `rate`. Z. Wen, W. Yin (Math. Programming 2013), §2.
inline void cayley_step(Eigen::MatrixXd& U, const Eigen::MatrixXd& G, double rate) {
  const Eigen::MatrixXd skew = G * U.transpose() - U * G.transpose();
  const double size = skew.norm();
  if (size > 0 && std::isfinite(size)) U = (cayley_orthogonal(skew * (-rate / (2 * size))) * U).eval();
}

}  // namespace detail

/// Bases of one kv head from a sample of its queries, keys and values: the principal directions of keys and values,
/// turned step by step so that causal attention through the first r coordinates, r drawn anew each step, moves least.
/// The best seen at a quarter, a half and three quarters of the channels is returned, so never worse there than
/// principal directions. O(steps·(heads·n·m·d + m·d² + d³)). Throws shape_error.
/// B. Lin et al., "MatryoshkaKV: Adaptive KV Compression via Trainable Orthogonal Projection" (ICLR 2025), §3.
template <std::same_as<double> T = double>
MatryoshkaBases train_matryoshka(Context& ctx, View<const float, 3> Q,  // (heads of the group, n, d)
                                 MatrixView<const float> K,             // (m, d)
                                 MatrixView<const float> V,             // (m, d)
                                 const MatryoshkaOptions& options = {}) {
  detail::MatryoshkaSample<T> sample(ctx, Q, K, V);
  const Index d = sample.channels();
  const Eigen::MatrixXd I = Eigen::MatrixXd::Identity(d, d);
  const auto principal = [&](const auto& rows) -> Eigen::MatrixXd {
    return lord_factors(I, Eigen::MatrixXd(rows.transpose() * rows), d).left;
  };
  MatryoshkaBases U{principal(sample.keys()), principal(sample.values())}, best = U, gradient;
  const auto loss = [&] {
    double total = 0;
    for (const Index quarter : {1, 2, 3}) {
      const Index rank = std::clamp<Index>(quarter * d / 4, 1, d);
      total += sample.error(U, rank, rank);
    }
    return total;
  };
  double least = loss();
  const Philox draws(options.seed, 0x3a7);
  const Index low = std::clamp<Index>(options.least_rank, 1, d);
  for (Index step = 0; step < options.steps && low < d; ++step) {
    const auto draw = [&](Index which) {
      return low + static_cast<Index>(draws.bits(static_cast<std::uint64_t>(2 * step + which)) %
                                      static_cast<std::uint32_t>(d - low));
    };
    sample.error(U, draw(0), draw(1), &gradient);
    const double rate = options.rate * (1 - static_cast<double>(step) / static_cast<double>(options.steps));
    detail::cayley_step(U.keys, gradient.keys, rate);
    detail::cayley_step(U.values, gradient.values, rate);
    if (step % 10 != 9 && step + 1 != options.steps) continue;
    const double now = loss();
    if (now < least) {
      least = now;
      best = U;
    }
  }
  return best;
}

/// Ranks of `parts` heads (or layers) of d channels whose sum is at most `budget`: all start at d, and again and again
/// the one whose loss of `step` channels raises error(ranks) least gives them up. O(parts² · d / step) calls. Throws
/// shape_error unless budget leaves each a channel.
template <class Error>
std::vector<Index> greedy_rank_search(Index parts, Index d, Index budget, Index step, Error&& error) {
  if (parts < 1 || d < 1 || step < 1 || budget / parts < 1)
    throw shape_error(tessera::detail::concat("tessera: greedy_rank_search of ", parts, " parts of ", d,
                                              " channels in steps of ", step, " under a budget of ", budget,
                                              ": expected at least one of each, and a channel for each part"));
  std::vector<Index> ranks(static_cast<std::size_t>(parts), d);
  for (Index total = parts * d; total > budget;) {
    std::size_t chosen = 0;
    double least = std::numeric_limits<double>::infinity();
    Index taken = 0;
    for (std::size_t p = 0; p < ranks.size(); ++p) {
      const Index give = std::min({step, ranks[p] - 1, total - budget});
      if (give < 1) continue;
      ranks[p] -= give;
      const double now = error(std::span<const Index>(ranks));
      ranks[p] += give;
      if (taken == 0 || now < least) {
        least = now;
        chosen = p;
        taken = give;
      }
    }
    ranks[chosen] -= taken;
    total -= taken;
  }
  return ranks;
}

}  // namespace tessera::inline TESSERA_ABI::kv
