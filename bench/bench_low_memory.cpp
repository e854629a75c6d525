/// Methods that keep less: APOLLO's and GaLore's steps beside AdamW's of the same matrix and the subspace that GaLore
/// takes anew now and then; S²FT's part of a layer's weight gradient beside all of it; GFLOP/s of what each must do,
/// <op>/f32/<shape>. AdamW in mixed precision, GB/s: on two threads with the wall's clock alone.
#include <cstdio>
#include <memory>
#include <string>

#include <harness.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/nn/s2ft.hpp>
#include <tessera/optim/galore.hpp>
#include <tessera/optim/low_memory.hpp>
#include <tessera/optim/mixed_precision.hpp>

namespace {

using namespace tessera;
using namespace tessera::optim;

Buffer<float> drawn(Index n, std::uint64_t seed) {
  Buffer<float> x(n);
  const Philox draws(seed);
  for (Index i = 0; i < n; ++i) x[i] = draws.uniform(static_cast<std::uint64_t>(i)) - 0.5f;
  return x;
}

/// What `make()` gives, made when the row runs.
template <class Make>
auto made_once(Make make) {
  using Made = decltype(make());
  return [make, held = std::make_shared<std::unique_ptr<Made>>()]() -> Made& {
    if (!*held) held->reset(new Made(make()));  // in its place: it may not move
    return **held;
  };
}

/// An optimizer of one matrix.
template <class Opt>
struct Training {
  Opt opt;
  Index rows, cols;
  Buffer<float> w{rows * cols}, g{drawn(rows * cols, 1)};
  Parameters<float> params{{"w", MatrixView<float>(w.data(), rows, cols)}},
      grads{{"w", MatrixView<float>(g.data(), rows, cols)}};
  Context ctx{};
  optim::detail::inner_state_t<Opt, float> state = opt.init(params);
  void step() { opt.update(ctx, grads, state, params); }
};
template <class Opt>
auto training(Opt opt, Index rows, Index cols) {
  return made_once([=] { return Training<Opt>{opt, rows, cols}; });
}

void galore_rows(Index rows, Index cols, Index rank) {
  const auto steps = training(galore(1e-3, {.rank = rank, .refresh = Index{1} << 40}), rows, cols);
  const auto adam = training(adamw(1e-3), rows, cols);
  const auto subspace = made_once([=] { return std::pair(drawn(rows * cols, 1), Buffer<float>(rank * rows)); });
  const auto roof = [] { return bench::fma_roof<float>(); };
  const std::string shape = tessera::detail::concat("/f32/", rows, "x", cols, "/", rank);
  const double m = static_cast<double>(rows), n = static_cast<double>(cols), r = static_cast<double>(rank);
  bench::row("galore" + shape, "GFLOPs", 4 * r * m * n, roof, [=] { steps().step(); },
             {{"adamw", [=] { adam().step(); }}});
  bench::row("galore_subspace" + shape, "GFLOPs", m * m * n + 9 * m * m * m, roof,
             [=] {
               auto& [g, P] = subspace();
               Context ctx;
               svd_projection{}(ctx, MatrixView<const float>(g.data(), rows, cols), 0, 0,
                                MatrixView<float>(P.data(), rank, rows));
             },
             {{"step", [=] { steps().step(); }}});
}

/// Its products are half of GaLore's, which goes back from the subspace.
void apollo_row(Index rows, Index cols, Index rank) {
  const auto steps = training(apollo(1e-3, {.rank = rank}), rows, cols);
  const auto other = training(galore(1e-3, {.rank = rank, .refresh = Index{1} << 40}), rows, cols);
  const auto adam = training(adamw(1e-3), rows, cols);
  const std::string shape = tessera::detail::concat("/f32/", rows, "x", cols, "/", rank);
  bench::row(
      "apollo" + shape, "GFLOPs",
      2.0 * static_cast<double>(rank) * static_cast<double>(rows) * static_cast<double>(cols),
      [] { return bench::fma_roof<float>(); }, [=] { steps().step(); },
      {{"galore", [=] { other().step(); }}, {"adamw", [=] { adam().step(); }}});
  const auto state_bytes = [&](const auto& opt) {
    Buffer<float> w(rows * cols);
    auto state = opt.init(Parameters<float>{{"w", MatrixView<float>(w.data(), rows, cols)}});
    return state.state_bytes();
  };
  std::printf("state%s: apollo %zu bytes, galore %zu, adamw %zu\n", shape.c_str(),
              state_bytes(apollo(1e-3, {.rank = rank})), state_bytes(galore(1e-3, {.rank = rank})),
              state_bytes(adamw(1e-3)));
}

/// AdamW with bf16 gradients and parameters: 14 bytes read and 14 written a parameter.
void mixed_row(Index n, Index threads) {
  struct Mixed {
    Buffer<bf16> grad, param;
    Buffer<float> master, mu, nu;
    Context one, ctx;
    Index count = 0;
    Mixed(Index size, Index workers)
        : grad(size), param(size), master(size), mu(size), nu(size), ctx(Context::with_threads(workers)) {
      const Philox draws(1);
      for (Index i = 0; i < size; ++i) grad[i] = bf16(draws.uniform(static_cast<std::uint64_t>(i)) - 0.5f);
    }
    void step(Context& on) {
      adamw_step_subgroup(on, MixedAdamW{.weight_decay = 0.01}, count++,
                          Subgroup<bf16>{std::span<const bf16>(grad), std::span<float>(master), std::span<float>(mu),
                                         std::span<float>(nu), std::span<bf16>(param)});
    }
  };
  const auto made = [=, held = std::make_shared<std::unique_ptr<Mixed>>()]() -> Mixed& {
    if (!*held) *held = std::make_unique<Mixed>(n, threads);
    return **held;
  };
  const auto roof = [=] {
    auto& o = made();
    const auto view = [](Buffer<float>& b) { return VectorView<float>(b.data(), b.size()); };
    const double start = bench::seconds();
    map(o.ctx, bench::AddToEach{}, view(o.mu), VectorView<const float>(o.master.data(), n), view(o.nu));
    return 20.0 * static_cast<double>(n) / (bench::seconds() - start) * 1e-9;
  };
  std::vector<bench::Peer> peers;
  if (threads > 1) peers.push_back({"one_thread", [=] { made().step(made().one); }});
  bench::row(
      tessera::detail::concat("adamw_mixed/bf16/", n, threads > 1 ? "/threads:" : "",
                              threads > 1 ? std::to_string(threads) : std::string()),
      "GBs", 28.0 * static_cast<double>(n), roof, [=] { made().step(made().ctx); }, peers);
}

void s2ft_row(Index tokens, Index out, Index in, Index k) {
  struct Layer {
    Context ctx;
    Buffer<float> W, X, dY, dW;
    Index n, out, in;
    void backward(Index rows) {
      nn::partial_linear_backward<float>(
          ctx, MatrixView<const float>(W.data(), out, in), MatrixView<const float>(X.data(), n, in),
          MatrixView<const float>(dY.data(), n, out), {}, 0, 0, MatrixView<float>(dW.data(), rows, in));
    }
  };
  const auto layer = made_once([=] {
    return Layer{
        {}, drawn(out * in, 1), drawn(tokens * in, 2), drawn(tokens * out, 3), Buffer<float>(out * in), tokens, out,
        in};
  });
  const double flops = 2.0 * static_cast<double>(tokens) * static_cast<double>(k) * static_cast<double>(in);
  bench::row(
      tessera::detail::concat("s2ft/f32/", tokens, "x", out, "x", in, "/", k), "GFLOPs", flops,
      [] { return bench::fma_roof<float>(); }, [=] { layer().backward(k); },
      {{"whole", [=] { layer().backward(out); }}});
}

}  // namespace

int main(int argc, char** argv) {
  galore_rows(256, 1024, 64);
  galore_rows(512, 2048, 128);
  galore_rows(1024, 4096, 256);
  apollo_row(256, 1024, 64);
  apollo_row(512, 2048, 128);
  apollo_row(1024, 4096, 256);
  for (const Index threads : {1, 2}) mixed_row(10000000, threads);
  for (const Index k : {64, 128, 512, 1024}) s2ft_row(512, 4096, 1024, k);
  std::printf("isa %s\n", isa_text(active_isa()).c_str());
  return bench::run_rows(argc, argv);
}
