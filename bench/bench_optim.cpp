/// Optimizer steps against a plain -O3 loop and Eigen (both compiled for this machine); GB/s of what a step must move.
/// The roof is the same streams through the simplest arithmetic. <op>/f32/<parameters>.
#include <cstdio>
#include <memory>
#include <string>

#include <harness.hpp>
#include <peer_optim.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/optim/optim.hpp>

namespace {

using namespace tessera;
using namespace tessera::optim;

struct AddTo3 {
  template <class V>
  TESSERA_INLINE void operator()(V& p, const V& g, V& m, V& v) const {
    p = p + g;
    m = m + g;
    v = v + g;
  }
};
struct AddTo1 {
  template <class V>
  TESSERA_INLINE void operator()(V& p, const V& g) const {
    p = p + g;
  }
};
struct AddTo2 {
  template <class V>
  TESSERA_INLINE void operator()(V& p, const V& g, V& m) const {
    p = p + g;
    m = m + g;
  }
};

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
  std::unique_ptr<Model> model, other, probe;  // ours, the peers', the roof's
  std::unique_ptr<decltype(std::declval<Opt>().init(Parameters<float>{}))> state;
  void make() {
    if (model) return;
    model = std::make_unique<Model>(n);
    other = std::make_unique<Model>(n);
    probe = std::make_unique<Model>(n);
    state = std::make_unique<decltype(opt.init(model->params))>(opt.init(model->params));
  }
  void step() {
    make();
    opt.update(ctx, model->grads, *state, model->params);
  }
};

template <class Opt>
void step_row(const std::string& name, const Opt& opt, Index n, int updated, bool adam) {
  auto x = std::make_shared<Run<Opt>>(Run<Opt>{opt, n, Context(), {}, {}, {}, {}});
  const double bytes = (2.0 * updated + 1) * sizeof(float) * static_cast<double>(n);
  const auto roof = [=] {
    x->make();
    auto& o = *x->probe;
    const VectorView<const float> g(o.g.data(), n);
    const double start = bench::seconds();
    updated == 3 ? map(x->ctx, AddTo3{}, o.view(o.p), g, o.view(o.m), o.view(o.v))
                 : map(x->ctx, AddTo2{}, o.view(o.p), g, o.view(o.m));
    return bytes / (bench::seconds() - start) * 1e-9;
  };
  const peers::AdamW options{0.9f, 0.999f, 1, 1, 1e-8f, 1e-3f, 0.01f};
  std::vector<bench::Peer> others;
  const auto with = [=](auto&& f) {
    return [=] {
      x->make();
      auto& o = *x->other;
      f(o.p.data(), o.g.data(), o.m.data(), o.v.data());
    };
  };
  if (adam) {
    others.push_back({"loop", with([=](float* p, const float* g, float* m, float* v) {
                        peers::loop_adamw(options, p, g, m, v, n);
                      })});
    others.push_back({"eigen", with([=](float* p, const float* g, float* m, float* v) {
                        peers::eigen_adamw(options, p, g, m, v, n);
                      })});
  } else {
    others.push_back({"loop", with([=](float* p, const float* g, float* m, float*) {
                        peers::loop_momentum(0.9f, 1e-3f, p, g, m, n);
                      })});
  }
  bench::row(
      tessera::detail::concat(name, "/f32/", n), "GBs", bytes, roof, [=] { x->step(); }, others);
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
    map(o.ctx, AddTo1{}, VectorView<float>(o.p.data(), o.p.size()), VectorView<const float>(o.g.data(), o.g.size()));
    return bytes / (bench::seconds() - start) * 1e-9;
  };
  const auto step = [=] { pair().opt.update(pair().ctx, pair().grads, pair().state, pair().params); };
  const auto descent = [=] { pair().plain.update(pair().ctx, pair().grads, pair().plain_state, pair().params); };
  bench::row(tessera::detail::concat("apollo_mini/f32/", matrices, "x", rows, "x", cols), "GBs", bytes, roof, step,
             {{"sgd", descent}});
}

}  // namespace

int main(int argc, char** argv) {
  const warmup_cosine rate{.peak = 1e-3, .warmup_steps = 100, .decay_steps = 10000};
  for (Index n : {100000, 3000000, 10000000}) {
    step_row("adamw", adamw(rate, {}, 0.01), n, 3, true);
    step_row("adamw_clipped", chain(clip_by_global_norm(1), adamw(rate, {}, 0.01)), n, 3, true);
    step_row("momentum", sgd(rate, 0.9), n, 2, false);
  }
  apollo_row(1, 2500, 4000);
  apollo_row(10, 1000, 1000);
  apollo_row(10, 2000, 500);
  std::printf("isa %s\n", isa_text(active_isa()).c_str());
  return bench::run_rows(argc, argv);
}
