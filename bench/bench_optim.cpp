/// Optimizer steps against a plain -O3 loop and Eigen (both compiled for this machine); GB/s of what a step must move.
/// The roof is the streams of f32 state through the simplest arithmetic; vs_f32 is the step with such state.
/// <op>/<state>/<parameters>.
#include <cmath>
#include <cstdio>
#include <functional>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <harness.hpp>
#include <peer_optim.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/optim/optim.hpp>

namespace {

using namespace tessera;
using namespace tessera::optim;

/// Ours, the peers' and the roof's memory, made when the row runs.
struct Model {
  Buffer<float> p, g, m, v;
  Parameters<float> params, grads;
  explicit Model(Index n) : p(n), g(n), m(n), v(n) {
    const Philox draws(1);
    for (Index i = 0; i < n; ++i) g[i] = draws.uniform(static_cast<std::uint64_t>(i)) - 0.5f;
    params.emplace_back("w", std::span<float>(p));
    grads.emplace_back("w", std::span<float>(g));
  }
  VectorView<float> view(Buffer<float>& x) { return {x.data(), x.size()}; }
};

template <class Opt>
struct Run {
  Opt opt;
  Index n;
  Context ctx;
  std::unique_ptr<Model> model;
  std::unique_ptr<decltype(std::declval<Opt>().init(Parameters<float>{}))> state;
  void step() {
    if (!model) {
      model = std::make_unique<Model>(n);
      state = std::make_unique<decltype(opt.init(model->params))>(opt.init(model->params));
    }
    opt.update(ctx, model->grads, *state, model->params);
  }
};
template <class Opt>
std::function<void()> stepping(const Opt& opt, Index n) {
  auto run = std::make_shared<Run<Opt>>(Run<Opt>{opt, n, Context(), {}, {}});
  return [=] { run->step(); };
}

/// A peer's loop over memory of its own, made when it first runs.
template <class F>
bench::Peer peer(const std::string& name, Index n, const F& loop) {
  auto memory = std::make_shared<std::unique_ptr<Model>>();
  return {name, [=] {
            if (!*memory) *memory = std::make_unique<Model>(n);
            Model& o = **memory;
            loop(o.p.data(), o.g.data(), o.m.data(), o.v.data());
          }};
}

/// GB/s of reading g and reading and writing the others, `updated` of them.
std::function<double()> streams(Index n, int updated) {
  auto memory = std::make_shared<std::unique_ptr<Model>>();
  return [=] {
    if (!*memory) *memory = std::make_unique<Model>(n);
    Context ctx;
    Model& o = **memory;
    const VectorView<const float> g(o.g.data(), n);
    const double start = bench::seconds();
    updated == 3 ? map(ctx, bench::AddToEach{}, o.view(o.p), g, o.view(o.m), o.view(o.v))
                 : map(ctx, bench::AddToEach{}, o.view(o.p), g, o.view(o.m));
    return (2.0 * updated + 1) * sizeof(float) * static_cast<double>(n) / (bench::seconds() - start) * 1e-9;
  };
}

/// `state` bytes of state a parameter.
template <class Opt>
void step_row(const std::string& name, const Opt& opt, Index n, double state, const std::vector<bench::Peer>& peers) {
  const double bytes = (3 * sizeof(float) + 2 * state) * static_cast<double>(n);
  bench::row(tessera::detail::concat(name, '/', n), "GBs", bytes, streams(n, state > 4 ? 3 : 2), stepping(opt, n),
             peers);
}

/// The flops of its five Newton-Schulz steps; gemm is one product of that shape, at as many flops.
void muon_row(Index n) {
  const double product = 2 * std::pow(static_cast<double>(n), 3), flops = 5 * 2 * product;
  const auto opt = chain(scale_by_muon(), scale(-1e-3));
  auto run = std::make_shared<Run<std::remove_const_t<decltype(opt)>>>(
      Run<std::remove_const_t<decltype(opt)>>{opt, n * n, Context(), {}, {}});
  auto other = std::make_shared<std::unique_ptr<Model>>();
  bench::row(
      tessera::detail::concat("muon/f32/", n, 'x', n), "GFLOPs", flops, [] { return bench::fma_roof<float>(); },
      [=] {
        if (!run->model) {
          run->model = std::make_unique<Model>(n * n);
          auto& m = *run->model;
          m.params = {{"w", MatrixView<float>(m.p.data(), n, n)}};
          m.grads = {{"w", MatrixView<float>(m.g.data(), n, n)}};
          run->state = std::make_unique<decltype(opt.init(m.params))>(opt.init(m.params));
        }
        run->step();
      },
      {peer("gemm", n * n, [=](const float* p, const float* g, float* m, float*) {
        Context ctx;
        for (int i = 0; i < 10; ++i)
          gemm(ctx, 1.0f, MatrixView<const float>(p, n, n), MatrixView<const float>(g, n, n), 0.0f,
               MatrixView<float>(m, n, n));
      })});
}

/// APOLLO-Mini on matrices of n parameters in all, beside plain descent on the same; bytes are descent's.
void apollo_row(Index matrices, Index rows, Index cols) {
  struct Pair {
    Buffer<float> p, g;
    Parameters<float> params, grads;
    Context ctx;
    decltype(apollo_mini(1e-3)) opt = apollo_mini(1e-3);
    decltype(sgd(1e-3)) plain = sgd(1e-3);
    decltype(opt.init(Parameters<float>{})) state;
    decltype(plain.init(Parameters<float>{})) plain_state;
    static Parameters<float> blocks(Buffer<float>& x, Index count, Index r, Index c) {
      Parameters<float> all;
      for (Index i = 0; i < count; ++i)
        all.emplace_back(std::to_string(i), MatrixView<float>(x.data() + i * r * c, r, c));
      return all;
    }
    Pair(Index count, Index r, Index c)
        : p(count * r * c),
          g(count * r * c),
          params(blocks(p, count, r, c)),
          grads(blocks(g, count, r, c)),
          state(opt.init(params)),
          plain_state(plain.init(params)) {
      const Philox draws(1);
      for (Index i = 0; i < g.size(); ++i) g[i] = draws.uniform(static_cast<std::uint64_t>(i)) - 0.5f;
    }
  };
  auto x = std::make_shared<std::unique_ptr<Pair>>();
  const auto pair = [=]() -> Pair& {
    if (!*x) *x = std::make_unique<Pair>(matrices, rows, cols);
    return **x;
  };
  const double bytes = 3.0 * sizeof(float) * static_cast<double>(matrices * rows * cols);
  const auto roof = [=] {
    auto& o = pair();
    const double start = bench::seconds();
    map(o.ctx, bench::AddToEach{}, VectorView<float>(o.p.data(), o.p.size()),
        VectorView<const float>(o.g.data(), o.g.size()));
    return bytes / (bench::seconds() - start) * 1e-9;
  };
  const auto step = [=] { pair().opt.update(pair().ctx, pair().grads, pair().state, pair().params); };
  const auto descent = [=] { pair().plain.update(pair().ctx, pair().grads, pair().plain_state, pair().params); };
  bench::row(tessera::detail::concat("apollo_mini/f32/", matrices, "x", rows, "x", cols), "GBs", bytes, roof, step,
             {{"sgd", descent}});
}

struct AddOne {
  template <class V>
  TESSERA_INLINE void operator()(V& p) const {
    p = p + V(1.0f);
  }
};

/// Three passes over the parameters, each with normal numbers of its own; the peer draws them with std.
void mezo_row(Index n) {
  using Opt = decltype(mezo(constant{}));
  struct Both {
    Opt opt = mezo(constant{1e-9}, 1e-3, 1);
    Context ctx;
    std::unique_ptr<Model> model;
    Opt::State state;
    Model& made() {
      if (!model) {
        model = std::make_unique<Model>(n);
        state = opt.init(model->params);
      }
      return *model;
    }
    Index n;
  };
  auto x = std::make_shared<Both>();
  x->n = n;
  const double bytes = 6.0 * sizeof(float) * static_cast<double>(n);
  const auto roof = [=] {
    auto& m = x->made();
    const double start = bench::seconds();
    for (int pass = 0; pass < 3; ++pass) map(x->ctx, AddOne{}, m.view(m.m));
    return bytes / (bench::seconds() - start) * 1e-9;
  };
  const auto with_std = [=] {
    auto& m = x->made();
    for (const float by : {1e-3f, -2e-3f, 1e-3f}) {
      std::mt19937 words(1);
      std::normal_distribution<float> normal;
      for (float& v : m.v) v += by * normal(words);
    }
  };
  bench::row(tessera::detail::concat("mezo/f32/", n), "GBs", bytes, roof,
             [=] {
               auto& m = x->made();
               x->opt.step(
                   x->ctx, [] { return 0.0; }, x->state, m.params);
             },
             {{"std", with_std}});
}

/// Clipping as a link that nothing before it knows: its norm takes a pass of its own.
struct ClipInAPass {
  static constexpr std::string_view name = "clip_in_a_pass";
  ClipByGlobalNorm clip;
  template <class T>
  auto init(const Parameters<T>& params) const {
    return clip.init(params);
  }
  template <class T>
  auto reduce(Context& ctx, std::span<const VectorView<const T>> updates, ClipByGlobalNorm::State& state) const {
    return clip.reduce<T>(ctx, updates, state);
  }
};

/// Two gradients, then AdamW behind clipping of their mean: 12 numbers a parameter.
template <class Opt>
void accumulated_row(const Opt& whole, Index n) {
  const auto two = [=](const auto& opt) {
    return [step = stepping(multi_steps(opt, 2), n)] {
      step();
      step();
    };
  };
  bench::row(tessera::detail::concat("adamw_clipped_of_2/f32/", n), "GBs",
             12.0 * sizeof(float) * static_cast<double>(n), streams(n, 3), two(chain(clip_by_global_norm(1), whole)),
             {{"own_pass", two(chain(ClipInAPass{ClipByGlobalNorm(1)}, whole))}, {"unclipped", two(whole)}});
}

}  // namespace

int main(int argc, char** argv) {
  const warmup_cosine rate{.peak = 1e-3, .warmup_steps = 100, .decay_steps = 10000};
  const peers::AdamW options{0.9f, 0.999f, 1, 1, 1e-8f, 1e-3f, 0.01f};
  const auto coded = [&](const auto& link) {
    return chain(link, add_decayed_weights(0.01), scale_by_learning_rate(rate));
  };
  for (Index n : {100000, 3000000, 10000000}) {
    const std::vector<bench::Peer> adam{
        peer("loop", n,
             [=](float* p, const float* g, float* m, float* v) { peers::loop_adamw(options, p, g, m, v, n); }),
        peer("eigen", n,
             [=](float* p, const float* g, float* m, float* v) { peers::eigen_adamw(options, p, g, m, v, n); })};
    const auto whole = adamw(rate, {}, 0.01);
    const std::vector<bench::Peer> f32{{"f32", stepping(whole, n)}};
    step_row("adamw/f32", whole, n, 8, adam);
    step_row("adamw_clipped/f32", chain(clip_by_global_norm(1), whole), n, 8, adam);
    accumulated_row(whole, n);
    step_row("adamw/bf16", coded(in_bf16(scale_by_adam())), n, 4, f32);
    step_row("adamw/dynamic8", coded(in_dynamic8(scale_by_adam())), n, 2 + 8.0 / 128, f32);
    step_row("momentum/f32", sgd(rate, 0.9), n, 4, {peer("loop", n, [=](float* p, const float* g, float* m, float*) {
               peers::loop_momentum(0.9f, 1e-3f, p, g, m, n);
             })});
    step_row("lion/f32", lion(rate), n, 4, {peer("loop", n, [=](float* p, const float* g, float* m, float*) {
               peers::loop_lion(0.9f, 0.99f, 1e-3f, p, g, m, n);
             })});
  }
  for (Index n : {256, 1024}) muon_row(n);
  apollo_row(1, 2500, 4000);
  apollo_row(10, 1000, 1000);
  apollo_row(10, 2000, 500);
  mezo_row(1000000);
  std::printf("isa %s\n", isa_text(active_isa()).c_str());
  return bench::run_rows(argc, argv);
}
