/// A small network to train: what is left of its loss tells optimizers apart.
#pragma once

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <numeric>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/optim/parameters.hpp>
#include <vector>

#include "support/oracle.hpp"

namespace tessera::optim {

/// y = W2·tanh(W1·x + b), with parameters and gradients as optimizers take them.
struct Net {
  static constexpr Index in = 24, hidden = 20, out = 12, batch = 32;
  Buffer<float> w1, b, w2, dw1{hidden * in}, db{hidden}, dw2{out * hidden};
  Parameters<float> params, grads;

  Net(std::uint64_t seed, float size)
      : w1(test::random_buffer<float>(hidden * in, seed)),
        b(hidden),
        w2(test::random_buffer<float>(out * hidden, seed + 1)) {
    for (auto* w : {&w1, &w2})
      for (float& x : *w) x *= size;
    params = blocks(w1, b, w2);
    grads = blocks(dw1, db, dw2);
  }
  Net(const Net&) = delete;
  Net& operator=(const Net&) = delete;

  static Parameters<float> blocks(Buffer<float>& x, Buffer<float>& y, Buffer<float>& z) {
    return {{"w1", MatrixView<float>(x.data(), hidden, in)},
            {"b", std::span<float>(y)},
            {"w2", MatrixView<float>(z.data(), out, hidden)}};
  }
  /// H (batch, hidden) and Y (batch, out) for X (batch, in).
  void forward(Context& ctx, MatrixView<const float> X, MatrixView<float> H, MatrixView<float> Y) const {
    gemm<float>(ctx, 1, X, MatrixView<const float>(w1.data(), hidden, in).transposed(), 0, H);
    for (Index i = 0; i < H.rows(); ++i)
      for (Index j = 0; j < hidden; ++j) H(i, j) = std::tanh(H(i, j) + b[j]);
    gemm<float>(ctx, 1, MatrixView<const float>(H), MatrixView<const float>(w2.data(), out, hidden).transposed(), 0, Y);
  }
};

/// The loss at each step, over that of the first, of a student on fresh batches of a teacher's outputs. Inputs are of
/// uneven sizes, 2^-spread from the first to the last, which the teacher makes up for.
template <class Opt>
std::vector<double> training_losses(const Opt& opt, Index steps, float spread = 4) {
  Net teacher(11, 0.5f), student(21, 0.2f);
  const auto size_of = [&](Index i) { return std::exp2(1 - spread * static_cast<float>(i % Net::in) / Net::in); };
  for (Index i = 0; i < teacher.w1.size(); ++i) teacher.w1[i] /= size_of(i);
  Context ctx;
  auto state = opt.init(student.params);
  Buffer<float> h(Net::batch * Net::hidden), y(Net::batch * Net::out), target(Net::batch * Net::out);
  const MatrixView<float> H(h.data(), Net::batch, Net::hidden), Y(y.data(), Net::batch, Net::out),
      Z(target.data(), Net::batch, Net::out), W2(student.w2.data(), Net::out, Net::hidden);
  std::vector<double> losses;
  for (Index step = 0; step < steps; ++step) {
    auto x = test::random_buffer<float>(Net::batch * Net::in, 1000 + static_cast<std::uint64_t>(step));
    for (Index i = 0; i < x.size(); ++i) x[i] *= size_of(i);
    const MatrixView<const float> X(x.data(), Net::batch, Net::in);
    teacher.forward(ctx, X, H, Z);
    student.forward(ctx, X, H, Y);
    double loss = 0;
    for (Index i = 0; i < y.size(); ++i) {
      y[i] = (y[i] - target[i]) / Net::batch;
      loss += static_cast<double>(y[i]) * static_cast<double>(y[i]);
    }
    losses.push_back(loss);
    Buffer<float> back(h.size());
    const MatrixView<float> B(back.data(), Net::batch, Net::hidden);
    gemm<float>(ctx, 1, MatrixView<const float>(Y), MatrixView<const float>(W2), 0, B);
    gemm<float>(ctx, 1, MatrixView<const float>(Y).transposed(), MatrixView<const float>(H), 0,
                MatrixView<float>(student.dw2.data(), Net::out, Net::hidden));
    std::fill(student.db.begin(), student.db.end(), 0.0f);
    for (Index i = 0; i < Net::batch; ++i)
      for (Index j = 0; j < Net::hidden; ++j) student.db[j] += B(i, j) *= 1 - H(i, j) * H(i, j);
    gemm<float>(ctx, 1, MatrixView<const float>(B).transposed(), X, 0,
                MatrixView<float>(student.dw1.data(), Net::hidden, Net::in));
    opt.update(ctx, student.grads, state, student.params);
  }
  for (std::size_t step = losses.size(); step-- > 0;) losses[step] /= losses[0];
  return losses;
}

/// Their mean over steps [begin, end).
inline double mean_loss(const std::vector<double>& losses, Index begin, Index end) {
  return std::accumulate(losses.begin() + begin, losses.begin() + end, 0.0) / static_cast<double>(end - begin);
}
/// Over the last quarter of the steps.
template <class Opt>
double left_after(const Opt& opt, Index steps, float spread = 4) {
  return mean_loss(training_losses(opt, steps, spread), steps - steps / 4, steps);
}

/// The least that `make(rate)` leaves over the rates.
template <class Make>
double best_of(const Make& make, std::initializer_list<double> rates, Index steps) {
  double best = std::numeric_limits<double>::infinity();
  for (const double rate : rates) best = std::min(best, left_after(make(rate), steps));
  return best;
}

}  // namespace tessera::optim
