/// Second-order methods' own passes over memory: MKOR's rank-one update of an inverse factor, M-FAC's products with its
/// window. GB/s of what they must move; mkor_update's roof is reading and writing the factor once by the simplest
/// arithmetic, M-FAC's is reading. Slopes of time over d close the program. <op>/f32/<shape>.
#include <Eigen/Cholesky>
#include <cmath>
#include <cstdio>
#include <memory>
#include <string>

#include <harness.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/optim/second_order/average_inverse.hpp>
#include <tessera/optim/second_order/mfac_window.hpp>

namespace {

using namespace tessera;
using namespace tessera::optim;

struct AddOne {
  template <class V>
  TESSERA_INLINE void operator()(V& x) const {
    x = x + V(1);
  }
};

Buffer<float> drawn(Index n, std::uint64_t seed) {
  Buffer<float> x(n);
  const Philox draws(seed);
  for (Index i = 0; i < n; ++i) x[i] = draws.uniform(static_cast<std::uint64_t>(i)) - 0.5f;
  return x;
}

/// An inverse factor, the vectors it is given in turn, and as much memory for the roof.
struct Factor {
  Context ctx;
  Index d;
  Buffer<float> M, probe, g;
  Index turn = 0;
  double scale = 1;
  explicit Factor(Index n) : d(n), M(n * n), probe(n * n), g(drawn(16 * n, 1)) {
    for (Index i = 0; i < n; ++i) M[i * n + i] = 1;
  }
  void update() {
    average_inverse(ctx, MatrixView<float>(M.data(), d, d), scale,
                    VectorView<const float>(g.data() + turn++ % 16 * d, d));
  }
  /// What K-FAC does instead.
  void invert() {
    using Matrix = Eigen::MatrixXf;
    const Matrix A = Eigen::Map<const Matrix>(M.data(), d, d);
    Eigen::Map<Matrix>(probe.data(), d, d) = A.llt().solve(Matrix::Identity(d, d));
  }
};

void update_row(Index d) {
  auto f = std::make_shared<std::unique_ptr<Factor>>();
  const auto made = [=]() -> Factor& {
    if (!*f) *f = std::make_unique<Factor>(d);
    return **f;
  };
  const double bytes = 8.0 * static_cast<double>(d) * static_cast<double>(d);
  const auto roof = [=] {
    Factor& x = made();
    const double start = bench::seconds();
    for (int i = 0; i < 8; ++i) map(x.ctx, AddOne{}, VectorView<float>(x.probe.data(), x.probe.size()));
    return 8 * bytes / (bench::seconds() - start) * 1e-9;
  };
  std::vector<bench::Peer> peers;
  if (d <= 1024) peers.push_back({"cholesky", [=] { made().invert(); }});
  bench::row(
      tessera::detail::concat("mkor_update/f32/", d), "GBs", bytes, roof, [=] { made().update(); }, peers);
}

struct Window {
  Context ctx;
  MFacDynamic<float> F;
  Buffer<float> x, y, probe;
  Window(Index d, Index m) : F(d, m, 1e-3), x(drawn(d, 1)), y(d), probe(std::min<Index>(m * d, Index{1} << 26)) {
    for (Index i = 0; i < m; ++i) push();
  }
  void push() { F.push(ctx, VectorView<const float>(x.data(), x.size())); }
  void ihvp() { F.ihvp(ctx, VectorView<const float>(x.data(), x.size()), VectorView<float>(y.data(), y.size())); }
};

void mfac_row(Index d, Index m) {
  auto w = std::make_shared<std::unique_ptr<Window>>();
  const auto made = [=]() -> Window& {
    if (!*w) *w = std::make_unique<Window>(d, m);
    return **w;
  };
  const double bytes = 4.0 * static_cast<double>(d) * static_cast<double>(m);
  const auto roof = [=] { return bench::read_roof(made().probe); };
  const std::string shape = tessera::detail::concat("/f32/", d, "x", m);
  bench::row("mfac_ihvp" + shape, "GBs", 2 * bytes, roof, [=] { made().ihvp(); });
  bench::row("mfac_push" + shape, "GBs", bytes, roof, [=] { made().push(); });
}

/// The slope of log seconds over log d, by least squares.
template <class F>
double slope(std::initializer_list<Index> sizes, F&& seconds_of) {
  double n = 0, x = 0, y = 0, xx = 0, xy = 0;
  for (const Index d : sizes) {
    const double at = std::log(static_cast<double>(d)), t = std::log(seconds_of(d));
    n += 1;
    x += at;
    y += t;
    xx += at * at;
    xy += at * t;
  }
  return (n * xy - x * y) / (n * xx - x * x);
}
template <class F>
double median_seconds(F&& f) {
  std::vector<double> all;
  f();
  for (int i = 0; i < 9; ++i) {
    const double start = bench::seconds();
    f();
    all.push_back(bench::seconds() - start);
  }
  return bench::median(all);
}

}  // namespace

int main(int argc, char** argv) {
  for (const Index d : {256, 512, 1024, 2048, 4096}) update_row(d);
  mfac_row(1000000, 32);
  mfac_row(100000, 32);
  mfac_row(1000000, 128);
  const int result = bench::run_rows(argc, argv);
  std::printf("slope over d: mkor_update %.2f", slope({256, 512, 1024, 2048}, [](Index d) {
                Factor f(d);
                return median_seconds([&] { f.update(); });
              }));
  std::printf(", Cholesky's inverse %.2f", slope({128, 256, 512, 1024}, [](Index d) {
                Factor f(d);
                return median_seconds([&] { f.invert(); });
              }));
  std::printf(", mfac_ihvp %.2f\n", slope({10000, 100000, 1000000, 10000000}, [](Index d) {
                Window w(d, 32);
                return median_seconds([&] { w.ihvp(); });
              }));
  std::printf("isa %s\n", isa_text(active_isa()).c_str());
  return result;
}
