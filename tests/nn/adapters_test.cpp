#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <string>
#include <tessera/nn/gs_lora.hpp>
#include <tessera/nn/lora.hpp>
#include <tessera/nn/mosa.hpp>
#include <tessera/nn/s2ft.hpp>
#include <tessera/optim/alias.hpp>
#include <tessera/optim/proximal.hpp>
#include <vector>

#include "nn/gradient_check.hpp"
#include "support/oracle.hpp"

namespace tessera::nn {
namespace TESSERA_TEST_FILE {

using test::random_buffer;

template <class T>
MatrixView<T> view(Buffer<T>& x, Index rows, Index cols) {
  return {x.data(), rows, cols};
}

using test::inner;

template <class F>
void expect_gradient(const F& f, Buffer<double>& x, const Buffer<double>& gradient) {
  test::expect_gradient("x", std::span<double>(x),
                        std::span<const double>(gradient.data(), static_cast<std::size_t>(gradient.size())), f);
}

TEST(Lora, GradientsAndMerging) {
  constexpr Index n = 6, in = 9, out = 7, r = 3;
  Context ctx;
  Lora<double> lora(out, in, r, 6, 1);
  EXPECT_EQ(lora.scale(), 2);
  auto x = random_buffer<double>(n * in, 1), dy = random_buffer<double>(n * out, 2);
  Buffer<double> y(n * out), dx(n * in), da(r * in), db(out * r);
  lora.forward(ctx, view(x, n, in), view(y, n, out));
  EXPECT_EQ(inner(y, y), 0);  // new
  const auto drawn = random_buffer<double>(out * r, 3);
  std::copy(drawn.begin(), drawn.end(), lora.B().data());
  lora.backward(ctx, view(x, n, in), view(dy, n, out), view(dx, n, in), 0, view(da, r, in), view(db, out, r));
  const auto loss = [&] {
    std::fill(y.begin(), y.end(), 0.0);
    lora.forward(ctx, view(x, n, in), view(y, n, out));
    return inner(y, dy);
  };
  expect_gradient(loss, x, dx);
  for (auto [values, gradient] : {std::pair{lora.A(), &da}, std::pair{lora.B(), &db}})
    for (Index i = 0; i < values.size(); ++i) {
      const double before = values.data()[i];
      values.data()[i] += 0.5;
      const double above = loss();
      values.data()[i] = before;
      EXPECT_NEAR(2 * (above - loss()), (*gradient)[i], 1e-10);  // bilinear
    }
  auto w = random_buffer<double>(out * in, 4);
  const auto base = w;
  Buffer<double> merged(n * out);
  loss();
  gemm<double>(ctx, 1, view(x, n, in), view(w, out, in).transposed(), 1, view(y, n, out));
  lora.restart(ctx, view(w, out, in), 9);
  gemm<double>(ctx, 1, view(x, n, in), view(w, out, in).transposed(), 0, view(merged, n, out));
  lora.forward(ctx, view(x, n, in), view(merged, n, out));  // begun anew, it adds nothing
  for (Index i = 0; i < y.size(); ++i) EXPECT_NEAR(merged[i], y[i], 1e-12);
  EXPECT_GT(std::abs(w[0] - base[0]), 1e-3);
  EXPECT_THROW((Lora<float>(4, 5, 6, 1)), shape_error);
}

TEST(GsLora, LossesAndTheirGradients) {
  constexpr Index n = 8, c = 5;
  Context ctx;
  auto logits = random_buffer<double>(n * c, 1);
  const std::array<Token, 8> targets{0, 1, 2, 3, 4, -1, 1, 0};
  const auto forget = [](Token t) { return t == 1 || t == 3; };
  Buffer<double> d(n * c);
  for (const double bound : {50.0, 0.1}) {  // the second is reached: forgetting is over
    const ForgetOptions o{.weight = 0.3, .bound = bound};
    const auto loss = gs_lora_loss<double>(ctx, view(logits, n, c), targets, forget, o, view(d, n, c));
    EXPECT_NEAR(loss.total, loss.kept + 0.3 * std::max(0.0, bound - loss.forgotten), 1e-14);
    expect_gradient([&] { return gs_lora_loss<double>(ctx, view(logits, n, c), targets, forget, o, {}).total; }, logits,
                    d);
  }
  auto z = random_buffer<double>(n * 4, 2), prototypes = random_buffer<double>(c * 4, 3);
  Buffer<double> dz(n * 4);
  for (const double bound : {100.0, 0.1}) {
    const ForgetOptions o{.weight = 0.3, .bound = bound};
    prototype_loss<double>(view(z, n, 4), view(prototypes, c, 4), targets, forget, o, view(dz, n, 4));
    expect_gradient(
        [&] { return prototype_loss<double>(view(z, n, 4), view(prototypes, c, 4), targets, forget, o, {}).total; }, z,
        dz);
  }
}

/// Layers of which one has to change, with an adapter each, trained under the group lasso: which adapters are left.
std::vector<bool> left(double lambda) {
  constexpr Index layers = 4, n = 16, d = 8, r = 2;
  Context ctx;
  std::vector<Lora<double>> adapters;
  std::vector<Buffer<double>> da, db;
  optim::Parameters<double> params, grads;
  for (Index l = 0; l < layers; ++l) {
    adapters.emplace_back(d, d, r, r, static_cast<std::uint64_t>(l));
    da.emplace_back(r * d);
    db.emplace_back(d * r);
  }
  for (std::size_t l = 0; l < adapters.size(); ++l) {
    const auto name = std::to_string(l);
    for (const auto& p : adapters[l].parameters(name)) params.push_back(p);
    for (const auto& p : Lora<double>::blocks(name, view(da[l], r, d), view(db[l], d, r))) grads.push_back(p);
  }
  const auto wanted = random_buffer<double>(d * d, 50);
  const auto opt = optim::proximal(
      optim::adam(0.02),
      optim::group_lasso_prox([](const optim::ParameterInfo& p) { return p.name.substr(0, 1); }, lambda),
      optim::constant{0.02});
  auto state = opt.init(params);
  for (std::uint64_t step = 0; step < 300; ++step) {
    Buffer<double> residual(n * d);
    std::vector<Buffer<double>> x;
    for (std::size_t l = 0; l < adapters.size(); ++l) x.push_back(random_buffer<double>(n * d, 100 + 4 * step + l));
    gemm<double>(ctx, -1, view(x[1], n, d), MatrixView<const double>(wanted.data(), d, d).transposed(), 0,
                 view(residual, n, d));
    for (std::size_t l = 0; l < adapters.size(); ++l) adapters[l].forward(ctx, view(x[l], n, d), view(residual, n, d));
    for (double& v : residual) v /= n;
    for (std::size_t l = 0; l < adapters.size(); ++l)
      adapters[l].backward(ctx, view(x[l], n, d), view(residual, n, d), {}, 0, view(da[l], r, d), view(db[l], d, r));
    opt.update(ctx, grads, state, params);
  }
  std::vector<bool> nonzero;
  for (const auto& a : adapters) {
    bool any = false;
    for (Index i = 0; i < a.A().size(); ++i) any = any || a.A().data()[i] != 0;
    for (Index i = 0; i < a.B().size(); ++i) any = any || a.B().data()[i] != 0;
    nonzero.push_back(any);
  }
  return nonzero;
}

TEST(GsLora, PenaltyLeavesTheLayerThatHasToChange) {
  EXPECT_EQ(left(0), (std::vector<bool>{true, true, true, true}));
  EXPECT_EQ(left(0.5), (std::vector<bool>{false, true, false, false}));
  EXPECT_EQ(left(100), (std::vector<bool>{false, false, false, false}));
}

TEST(Mosa, PartsArePartsOfOneAdapter) {
  constexpr Index n = 5, in = 12, out = 7, k = 4;
  Context ctx;
  const auto split = mosa_split(out, in, k, 3);
  auto x = random_buffer<double>(n * in, 1), w = random_buffer<double>(out * in, 2),
       dy = random_buffer<double>(n * out, 3);
  Buffer<double> sum(n * out), whole(n * out), merged(out * in), dw(out * in), dx(n * in);
  std::vector<Buffer<double>> modules(k);
  std::vector<MatrixView<const double>> views;
  for (Index part = 0; part < k; ++part) {
    EXPECT_NEAR(static_cast<double>(split.size(part)), out * in / double{k}, 1);
    mosa_forward<double>(ctx, view(x, n, in), view(w, out, in), split, part, part == 0 ? 0 : 1, view(sum, n, out));
    auto& module = modules[static_cast<std::size_t>(part)];
    module = Buffer<double>(out * in);
    split.masked<double>(part, view(w, out, in), view(module, out, in));
    views.push_back(view(module, out, in));
    mosa_backward<double>(ctx, view(x, n, in), view(dy, n, out), view(w, out, in), split, part, 0, view(dx, n, in),
                          view(dw, out, in));
    for (Index i = 0; i < out; ++i)
      for (Index j = 0; j < in; ++j) {
        double g = 0;
        for (Index b = 0; b < n; ++b) g += dy[b * out + i] * x[b * in + j];
        EXPECT_NEAR(dw[i * in + j], split.has(part, i, j) ? g : 0, 1e-13);
      }
    expect_gradient(
        [&] {
          mosa_forward<double>(ctx, view(x, n, in), view(w, out, in), split, part, 0, view(whole, n, out));
          return inner(whole, dy);
        },
        x, dx);
  }
  gemm<double>(ctx, 1, view(x, n, in), view(w, out, in).transposed(), 0, view(whole, n, out));
  for (Index i = 0; i < n * out; ++i) EXPECT_NEAR(sum[i], whole[i], 1e-12);
  mosa_merge<double>(views, split, view(merged, out, in));
  EXPECT_TRUE(std::equal(merged.begin(), merged.end(), w.begin()));
  EXPECT_THROW(mosa_split(2, 2, 300, 0), shape_error);
  EXPECT_THROW(mosa_merge<double>(views, split, view(merged, out - 1, in)), shape_error);
  views[1] = MatrixView<const double>(merged.data(), out, in - 1);
  EXPECT_THROW(mosa_merge<double>(views, split, view(merged, out, in)), shape_error);
}

/// y = W_d·(relu(W_g·x) * (W_u·x)), rows of X.
Buffer<double> feed_forward(Context& ctx, Buffer<double>& wu, Buffer<double>& wg, Buffer<double>& wd, Buffer<double>& x,
                            Index n, Index d, Index f) {
  Buffer<double> u(n * f), g(n * f), y(n * d);
  gemm<double>(ctx, 1, view(x, n, d), view(wu, f, d).transposed(), 0, view(u, n, f));
  gemm<double>(ctx, 1, view(x, n, d), view(wg, f, d).transposed(), 0, view(g, n, f));
  for (Index i = 0; i < u.size(); ++i) u[i] *= std::max(g[i], 0.0);
  gemm<double>(ctx, 1, view(u, n, f), view(wd, d, f).transposed(), 0, view(y, n, d));
  return y;
}

TEST(S2ft, CoPermutationChangesNothingAndPutsTheChosenFirst) {
  constexpr Index n = 5, d = 8, f = 21, k = 6;
  Context ctx;
  auto wu = random_buffer<double>(f * d, 1), wg = random_buffer<double>(f * d, 2), wd = random_buffer<double>(d * f, 3),
       x = random_buffer<double>(n * d, 4);
  const auto base = wu;
  const auto before = feed_forward(ctx, wu, wg, wd, x, n, d, f);
  for (const auto& order : {s2ft_select(f, k, 7), s2ft_select<double>(std::span<const double>(base.data(), f), k)}) {
    co_permute<double>(order, {view(wu, f, d), view(wg, f, d)}, {view(wd, d, f)});
    const auto after = feed_forward(ctx, wu, wg, wd, x, n, d, f);
    for (Index i = 0; i < before.size(); ++i) EXPECT_NEAR(after[i], before[i], 1e-13);
  }
  const auto order = s2ft_select<double>(std::span<const double>(base.data(), f), k);
  for (Index i = k; i < f; ++i)
    for (Index j = 0; j < k; ++j)
      EXPECT_LE(base[order[static_cast<std::size_t>(i)]], base[order[static_cast<std::size_t>(j)]]);
  const std::array<Index, 2> heads{2, 0};
  EXPECT_EQ(s2ft_heads(heads, 3), (std::vector<Index>{6, 7, 8, 0, 1, 2}));
  EXPECT_THROW(s2ft_select(3, 4, 0), shape_error);
  const float lost = std::nanf("");
  Buffer<float> scores(40);
  for (Index i = 0; i < scores.size(); ++i) scores[i] = i % 3 == 0 ? lost : static_cast<float>(i % 7);
  EXPECT_EQ(s2ft_select<float>(scores, 2)[0], 13);  // 6, the largest; NaN counts as least
  for (const std::vector<Index>& none : {std::vector<Index>{0, 1, 1}, {0, 1, 3}, {-1, 0, 1}})
    EXPECT_THROW(permute_rows<double>(none, view(wu, 3, d)), shape_error);
}

/// Heads of softmax attention with their projections, Y = concat(heads)·W_oᵀ, rows of X attending to all.
Buffer<double> attend(Context& ctx, std::array<Buffer<double>, 4>& w, Buffer<double>& x, Index n, Index d, Index heads,
                      Index head_dim) {
  const Index inner_dim = heads * head_dim;
  Buffer<double> projected[3], mixed(n * inner_dim), y(n * d);
  for (std::size_t k = 0; k < 3; ++k) {
    projected[k] = Buffer<double>(n * inner_dim);
    gemm<double>(ctx, 1, view(x, n, d), view(w[k], inner_dim, d).transposed(), 0, view(projected[k], n, inner_dim));
  }
  for (Index h = 0; h < heads; ++h)
    for (Index i = 0; i < n; ++i) {
      const auto row = [&](std::size_t k, Index token) { return &projected[k][token * inner_dim + h * head_dim]; };
      double total = 0;
      for (Index j = 0; j < n; ++j)
        total += std::exp(std::inner_product(row(0, i), row(0, i) + head_dim, row(1, j), 0.0));
      for (Index j = 0; j < n; ++j) {
        const double p = std::exp(std::inner_product(row(0, i), row(0, i) + head_dim, row(1, j), 0.0)) / total;
        for (Index c = 0; c < head_dim; ++c) mixed[i * inner_dim + h * head_dim + c] += p * row(2, j)[c];
      }
    }
  gemm<double>(ctx, 1, view(mixed, n, inner_dim), view(w[3], d, inner_dim).transposed(), 0, view(y, n, d));
  return y;
}

TEST(S2ft, HeadsAreCoPermutedAsWholes) {
  constexpr Index n = 6, d = 10, heads = 5, head_dim = 4, f = heads * head_dim;
  Context ctx;
  auto x = random_buffer<double>(n * d, 1);
  std::array<Buffer<double>, 4> w;  // of Q, K, V (heads·head_dim, d) and O (d, heads·head_dim)
  for (std::size_t k = 0; k < 4; ++k) w[k] = random_buffer<double>(f * d, 2 + k);
  const auto base = w;
  const auto before = attend(ctx, w, x, n, d, heads, head_dim);
  const auto chosen = s2ft_select(heads, 2, 9);
  const auto order = s2ft_heads(chosen, head_dim);
  co_permute<double>(order, {view(w[0], f, d), view(w[1], f, d), view(w[2], f, d)}, {view(w[3], d, f)});
  const auto after = attend(ctx, w, x, n, d, heads, head_dim);
  for (Index i = 0; i < before.size(); ++i) EXPECT_NEAR(after[i], before[i], 1e-13);
  for (Index c = 0; c < f; ++c) {  // the chosen heads' channels are one piece, in front
    const Index from = chosen[static_cast<std::size_t>(c / head_dim)] * head_dim + c % head_dim;
    for (Index j = 0; j < d; ++j) {
      EXPECT_EQ(w[2][c * d + j], base[2][from * d + j]);
      EXPECT_EQ(w[3][j * f + c], base[3][j * f + from]);
    }
  }
  co_permute<double>(order, {view(w[2], f, d)}, {view(w[3], d, f)});  // without Q and K other heads' weights are used
  const auto wrong = attend(ctx, w, x, n, d, heads, head_dim);
  double most = 0;
  for (Index i = 0; i < before.size(); ++i) most = std::max(most, std::abs(wrong[i] - before[i]));
  EXPECT_GT(most, 1e-3);
}

TEST(S2ft, PartialGradientsAreRowsAndColumnsOfTheWholeOne) {
  constexpr Index n = 33, in = 40, out = 56, k = 11;
  Context ctx;
  auto w = random_buffer<float>(out * in, 1), x = random_buffer<float>(n * in, 2),
       dy = random_buffer<float>(n * out, 3);
  Buffer<float> whole(out * in), rows(k * in), columns(out * k), dx(n * in), dx_whole(n * in), saved(n * k);
  gemm<float>(ctx, 1, view(dy, n, out).transposed(), view(x, n, in), 0, view(whole, out, in));
  gemm<float>(ctx, 1, view(dy, n, out), view(w, out, in), 0, view(dx_whole, n, in));
  partial_linear_backward<float>(ctx, view(w, out, in), view(x, n, in), view(dy, n, out), view(dx, n, in), 0, 0,
                                 view(rows, k, in));
  EXPECT_EQ(std::memcmp(rows.data(), whole.data(), rows.bytes()), 0);  // bit for bit
  EXPECT_EQ(std::memcmp(dx.data(), dx_whole.data(), dx.bytes()), 0);
  for (Index i = 0; i < n; ++i) std::copy_n(&x[i * in], k, &saved[i * k]);
  partial_linear_backward_columns<float>(ctx, view(w, out, in), view(saved, n, k), view(dy, n, out), {}, 0, 0,
                                         view(columns, out, k));
  for (Index i = 0; i < out; ++i)
    for (Index j = 0; j < k; ++j) ASSERT_EQ(columns[i * k + j], whole[i * in + j]);
  EXPECT_THROW(partial_linear_backward<float>(ctx, view(w, k - 1, in), view(x, n, in), view(dy, n, k - 1), {}, 0, 0,
                                              view(rows, k, in)),
               shape_error);
}

/// What is kept for the backward pass, gradients and Adam's state are numbers of the chosen rows and columns alone, and
/// what is not chosen is not read for their gradients: the work is in proportion as well.
TEST(S2ft, BytesAndFlopsAreInProportionToWhatIsChosen) {
  constexpr Index n = 16, in = 24, out = 24;
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  Context ctx;
  auto w = random_buffer<float>(out * in, 1), x = random_buffer<float>(n * in, 2);
  for (const Index k : {3, 6, 12, 24}) {
    auto dy = random_buffer<float>(n * out, 3);
    Buffer<float> rows(k * in), columns(out * k), saved(n * k);
    for (Index i = 0; i < n; ++i) std::copy_n(&x[i * in], k, &saved[i * k]);
    partial_linear_backward_columns<float>(ctx, view(w, out, in), view(saved, n, k), view(dy, n, out), {}, 0, 0,
                                           view(columns, out, k));
    for (Index i = 0; i < n; ++i) std::fill(&dy[i * out] + k, &dy[i * out] + out, nan);
    partial_linear_backward<float>(ctx, view(w, out, in), view(x, n, in), view(dy, n, out), {}, 0, 0,
                                   view(rows, k, in));
    for (const float g : rows) ASSERT_TRUE(std::isfinite(g)) << k;
    const optim::Parameters<float> params{{"rows", view(rows, k, in)}, {"columns", view(columns, out, k)}};
    const std::size_t whole = (n * in + 3 * 2 * out * in) * sizeof(float);
    EXPECT_EQ(out * (saved.bytes() + rows.bytes() + columns.bytes() + optim::adam(0.1).init(params).state_bytes()),
              static_cast<std::size_t>(k) * whole);
    EXPECT_THROW(partial_linear_backward_columns<float>(ctx, view(w, out, in), view(x, n, in), view(dy, n, out), {}, 0,
                                                        0, view(columns, out, k < in ? k : k - 1)),
                 shape_error);
  }
}

TEST(S2ft, OnlyTheChosenMoveAndAdaptersComeOff) {
  constexpr Index in = 10, out = 12, k = 4;
  Context ctx;
  auto w = random_buffer<float>(out * in, 1);
  const auto base = w;
  auto g = random_buffer<float>(k * in, 2);
  const optim::Parameters<float> params{{"w", MatrixView<float>(w.data(), k, in)}}, grads{{"w", view(g, k, in)}};
  const auto opt = optim::adam(0.1);
  auto state = opt.init(params);
  EXPECT_EQ(state.state_bytes(), 2 * k * in * sizeof(float));
  for (int step = 0; step < 3; ++step) opt.update(ctx, grads, state, params);
  EXPECT_EQ(std::memcmp(&w[k * in], &base[k * in], (out - k) * in * sizeof(float)), 0);
  const auto trained = w;
  const S2Adapter<float> adapter(MatrixView<const float>(base.data(), k, in), MatrixView<const float>(w.data(), k, in));
  adapter.detach(view(w, k, in));
  EXPECT_TRUE(std::equal(w.begin(), w.end(), base.begin()));
  adapter.attach(view(w, k, in));
  EXPECT_TRUE(std::equal(w.begin(), w.end(), trained.begin()));
  for (const auto& other : {view(w, k + 1, in), view(w, k, in + 1)}) {
    EXPECT_THROW(adapter.attach(other), shape_error);
    EXPECT_THROW(adapter.add(1, other), shape_error);
  }
  adapter.detach(view(w, k, in));
  adapter.add(0.5f, view(w, k, in));
  for (Index i = 0; i < k * in; ++i) EXPECT_NEAR(w[i], 0.5f * (base[i] + trained[i]), 1e-6f);
}

}  // namespace
}  // namespace tessera::nn
