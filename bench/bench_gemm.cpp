/// gemm and gemv against Eigen (compiled for this machine) and, where they are installed, OpenBLAS, oneDNN and, for
/// small products, libxsmm; one thread each, except the rows that say otherwise. gemm/<type>/MxNxK: row-major factors;
/// /bt: the second factor stored as (N,K).
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>

#include <harness.hpp>
#include <peer_gemm.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/kernels/batched/batched.hpp>
#include <tessera/kernels/gemm/epilogue.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/kernels/gemm/precision.hpp>
#include <tessera/kernels/gemm/syrk.hpp>
#include <tessera/kernels/gemv/gemv.hpp>
#include <tessera/kernels/ger/ger.hpp>
#include <tessera/kernels/map/map.hpp>

#if defined(__linux__)
#include <unistd.h>
#endif

namespace {

using namespace tessera;

template <class T>
std::shared_ptr<Buffer<T>> draws(Index n, std::uint64_t seed) {
  auto values = std::make_shared<Buffer<T>>(n, uninitialized);
  const Philox philox(seed);
  for (Index i = 0; i < n; ++i) (*values)[i] = T(philox.uniform(static_cast<std::uint64_t>(i)) - 0.5f);
  return values;
}

/// Operands are made when the row runs, not when it is registered.
template <class TA, class T>
struct Operands {
  Index m, n, k;
  std::shared_ptr<Buffer<TA>> a;
  std::shared_ptr<Buffer<T>> b, c;
  void make() {
    if (a) return;
    a = draws<TA>(m * k, 1);
    b = draws<T>(k * n, 2);
    c = draws<T>(m * n, 3);
  }
};

template <class TA, class T>
void gemm_row(Index m, Index n, Index k, bool transposed_b = false, Index threads = 1) {
  const std::string type = std::is_same_v<TA, bf16> ? "bf16" : sizeof(T) == 4 ? "f32" : "f64";
  std::string name = detail::concat("gemm/", type, "/", m, "x", n, "x", k, transposed_b ? "/bt" : "");
  if (threads > 1) name += detail::concat("/threads:", threads);
  auto x = std::make_shared<Operands<TA, T>>(Operands<TA, T>{m, n, k, {}, {}, {}});
  auto ctx = std::make_shared<Context>(Context::with_threads(threads));
  std::vector<bench::Peer> peers;
  if constexpr (std::is_same_v<TA, T>) {
    if (threads == 1) {
      if (!transposed_b) {
        peers.push_back({"eigen", [=] { peers::eigen_gemm(x->a->data(), x->b->data(), x->c->data(), m, n, k); }});
        if (*peers::openblas_name() != 0)
          peers.push_back(
              {"openblas", [=] { peers::openblas_gemm(x->a->data(), x->b->data(), x->c->data(), m, n, k); }});
        if constexpr (std::is_same_v<T, float>)
          if (*peers::onednn_name() != 0)
            peers.push_back({"onednn", [=] { peers::onednn_gemm(x->a->data(), x->b->data(), x->c->data(), m, n, k); }});
      } else if constexpr (std::is_same_v<T, float>) {
        peers.push_back({"eigen", [=] { peers::eigen_gemm_bt(x->a->data(), x->b->data(), x->c->data(), m, n, k); }});
        if (*peers::openblas_name() != 0)
          peers.push_back(
              {"openblas", [=] { peers::openblas_gemm_bt(x->a->data(), x->b->data(), x->c->data(), m, n, k); }});
      }
    }
  }
  const double flops = 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  bench::row(
      name, "GFLOPs", flops, [=] { return static_cast<double>(threads) * bench::fma_roof<T>(); },
      [=] {
        x->make();
        const auto B = transposed_b ? MatrixView<const T>(x->b->data(), n, k).transposed()
                                    : MatrixView<const T>(x->b->data(), k, n);
        gemm(*ctx, T(1), MatrixView<const TA>(x->a->data(), m, k), B, T(0), MatrixView<T>(x->c->data(), m, n));
      },
      peers);
}

/// GB/s of reading the matrix; the roof is that of reading as many other bytes.
template <class TA>
void gemv_row(Index m, Index k, bool column_major = false, Index n = 1) {
  const std::string type = std::is_same_v<TA, bf16> ? "bf16" : "f32";
  const std::string name = n == 1 ? detail::concat("gemv/", type, "/", m, "x", k, column_major ? "/columns" : "")
                                  : detail::concat("gemm/", type, "/", m, "x", n, "x", k, "/weights");
  auto x = std::make_shared<Operands<TA, float>>(Operands<TA, float>{m, n, k, {}, {}, {}});
  auto ctx = std::make_shared<Context>();
  auto other = std::make_shared<Buffer<float>>();
  const Index bytes = m * k * static_cast<Index>(sizeof(TA));
  std::vector<bench::Peer> peers;
  if constexpr (std::is_same_v<TA, float>) {
    if (n == 1) {
      peers.push_back(
          {"eigen", [=] { peers::eigen_gemv(x->a->data(), x->b->data(), x->c->data(), m, k, column_major); }});
      if (*peers::openblas_name() != 0)
        peers.push_back(
            {"openblas", [=] { peers::openblas_gemv(x->a->data(), x->b->data(), x->c->data(), m, k, column_major); }});
    } else {  // token-major: C (n,m) = X (n,k) * transpose(W (m,k))
      peers.push_back({"eigen", [=] { peers::eigen_gemm_bt(x->b->data(), x->a->data(), x->c->data(), n, m, k); }});
      if (*peers::openblas_name() != 0)
        peers.push_back(
            {"openblas", [=] { peers::openblas_gemm_bt(x->b->data(), x->a->data(), x->c->data(), n, m, k); }});
    }
  }
  bench::row(
      name, "GBs", static_cast<double>(bytes),
      [=] {
        if (other->size() == 0) *other = Buffer<float>(bytes / 4);
        double best = 0;
        for (Index i = 0; i < std::max<Index>(1, (Index{1} << 22) / bytes); ++i)
          best = std::max(best, bench::read_roof(*other));
        return best;
      },
      [=] {
        x->make();
        auto A = MatrixView<const TA>(x->a->data(), m, k);
        if (column_major) A = MatrixView<const TA>(x->a->data(), k, m).transposed();
        if (n == 1)
          gemv(*ctx, 1.0f, A, VectorView<const float>(x->b->data(), k), 0.0f, VectorView<float>(x->c->data(), m));
        else
          gemm(*ctx, 1.0f, A, MatrixView<const float>(x->b->data(), n, k).transposed(), 0.0f,
               MatrixView<float>(x->c->data(), n, m).transposed());
      },
      peers);
}

/// Square products of n in 16 or 8 bits; the roof is that of AMX, else of the FMA, which dot instructions exceed.
template <class TA, class TB, class T>
void narrow_row(const char* type, Index n) {
  struct Factors {
    Buffer<TA> a;
    Buffer<TB> b;
    Buffer<T> c;
  };
  auto x = std::make_shared<Factors>();
  const auto make = [=] {
    if (x->a.size() != 0) return;
    *x = {Buffer<TA>(n * n), Buffer<TB>(n * n), Buffer<T>(n * n)};
    for (Index i = 0; i < n * n; ++i) {
      x->a[i] = TA(static_cast<float>(i % 7));
      x->b[i] = TB(static_cast<float>(i % 5));
    }
  };
  std::vector<bench::Peer> peers;
  if (*peers::onednn_name() != 0) {
    if constexpr (std::is_same_v<TA, bf16>)
      peers.push_back({"onednn", [=] {
                         peers::onednn_gemm(reinterpret_cast<const std::uint16_t*>(x->a.data()),
                                            reinterpret_cast<const std::uint16_t*>(x->b.data()), x->c.data(), n, n, n);
                       }});
    else if constexpr (std::is_integral_v<TA>)
      peers.push_back({"onednn", [=] { peers::onednn_gemm(x->a.data(), x->b.data(), x->c.data(), n, n, n); }});
  }
  auto ctx = std::make_shared<Context>();
  bench::row(
      detail::concat("gemm/", type, "/", n, "x", n, "x", n), "GFLOPs", 2.0 * std::pow(static_cast<double>(n), 3),
      [] { return bench::narrow_roof<TA>(); },
      [=] {
        make();
        gemm(*ctx, T(1), MatrixView<const TA>(x->a.data(), n, n), MatrixView<const TB>(x->b.data(), n, n), T(0),
             MatrixView<T>(x->c.data(), n, n));
      },
      peers);
}

/// Square products of n in f32 by way of bf16, where AMX makes that faster; the roof is that of the FMA.
void split_row(Index n, Precision precision) {
  auto x = std::make_shared<Operands<float, float>>(Operands<float, float>{n, n, n, {}, {}, {}});
  auto ctx = std::make_shared<Context>();
  bench::row(
      detail::concat("gemm/f32/", n, "x", n, "x", n, precision == Precision::bf16x3 ? "/bf16x3" : "/bf16x6"), "GFLOPs",
      2.0 * std::pow(static_cast<double>(n), 3), [] { return bench::fma_roof<float>(); },
      [=] {
        x->make();
        gemm(*ctx, 1.0f, MatrixView<const float>(x->a->data(), n, n), MatrixView<const float>(x->b->data(), n, n), 0.0f,
             MatrixView<float>(x->c->data(), n, n), precision);
      },
      {});
}

struct Gelu {
  static constexpr const char* name = "gelu";
  static auto step() { return epilogue::gelu(); }
  template <class V>
  TESSERA_FLAT V operator()(const V& x) const {
    return gelu(x);
  }
};
struct Relu {
  static constexpr const char* name = "relu";
  static auto step() { return epilogue::relu(); }
  template <class V>
  TESSERA_FLAT V operator()(const V& x) const {
    return max(x, V(0.0f));
  }
};

/// A layer with a bias and an activation, fused; "passes" does them after the product, "gemm" leaves them out.
template <class Activation>
void epilogue_row(Index m, Index n, Index k) {
  auto x = std::make_shared<Operands<float, float>>(Operands<float, float>{m, n, k, {}, {}, {}});
  auto ctx = std::make_shared<Context>();
  const auto product = [=](const auto&... epilogue) {
    x->make();
    gemm(*ctx, 1.0f, MatrixView<const float>(x->a->data(), m, k), MatrixView<const float>(x->b->data(), k, n), 0.0f,
         MatrixView<float>(x->c->data(), m, n), epilogue...);
  };
  const auto bias = [=] { return VectorView<const float>(x->a->data(), n); };
  bench::row(
      detail::concat("gemm/f32/", m, "x", n, "x", k, "/bias_", Activation::name), "GFLOPs",
      2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k),
      [] { return bench::fma_roof<float>(); },
      [=] {
        x->make();
        product(epilogue::bias_per_column(bias()) | Activation::step());
      },
      {{"passes",
        [=] {
          product();
          const auto f = [](auto& y, const auto& b) { y = Activation()(y + b); };
          for (Index i = 0; i < m; ++i) map(*ctx, f, VectorView<float>(x->c->data() + i * n, n), bias());
        }},
       {"gemm", [=] { product(); }}});
}

/// One triangle; "gemm" computes both.
void syrk_row(Index n, Index k) {
  auto x = std::make_shared<Operands<float, float>>(Operands<float, float>{n, n, k, {}, {}, {}});
  auto ctx = std::make_shared<Context>();
  const auto A = [=] { return x->make(), MatrixView<const float>(x->a->data(), n, k); };
  const auto C = [=] { return x->make(), MatrixView<float>(x->c->data(), n, n); };
  bench::row(
      detail::concat("syrk/f32/", n, "x", k, "/lower"), "GFLOPs",
      static_cast<double>(n) * static_cast<double>(n + 1) * static_cast<double>(k),
      [] { return bench::fma_roof<float>(); }, [=] { syrk(*ctx, 1.0f, A(), 0.0f, C(), Triangle::lower); },
      {{"gemm", [=] { gemm(*ctx, 1.0f, A(), A().transposed(), 0.0f, C()); }}});
}

/// GB/s read and written; the roof is that of a = s*a.
void ger_row(Index n) {
  auto x = std::make_shared<Operands<float, float>>(Operands<float, float>{n, n, n, {}, {}, {}});
  auto ctx = std::make_shared<Context>();
  auto other = std::make_shared<Buffer<float>>();
  bench::row(
      detail::concat("ger/f32/", n, "x", n), "GBs", 8.0 * static_cast<double>(n) * static_cast<double>(n),
      [=] {
        if (other->size() == 0) *other = Buffer<float>(n * n);
        return roof::update(*other, std::max<Index>(1, (Index{1} << 20) / (n * n)));
      },
      [=] {
        x->make();
        ger(*ctx, 1e-3f, VectorView<const float>(x->a->data(), n), VectorView<const float>(x->b->data(), n),
            MatrixView<float>(x->c->data(), n, n));
      },
      {});
}

/// As many n x n products as 256 KiB of each factor hold.
template <class T>
void batched_row(Index n) {
  const Index count = (Index{1} << 18) / static_cast<Index>(sizeof(T)) / (n * n);
  auto x = std::make_shared<Operands<T, T>>(Operands<T, T>{count * n, n, n, {}, {}, {}});
  auto ctx = std::make_shared<Context>();
  const auto make = [=] {
    if (x->a) return;
    x->a = draws<T>(count * n * n, 1);
    x->b = draws<T>(count * n * n, 2);
    x->c = draws<T>(count * n * n, 3);
  };
  std::vector<bench::Peer> peers{
      {"eigen", [=] { peers::eigen_batched(x->a->data(), x->b->data(), x->c->data(), count, n); }}};
  if (*peers::libxsmm_name() != 0)
    peers.push_back({"libxsmm", [=] { peers::libxsmm_batched(x->a->data(), x->b->data(), x->c->data(), count, n); }});
  bench::row(
      detail::concat("gemm_batched/", sizeof(T) == 4 ? "f32/" : "f64/", n, "x", n, "x", n), "GFLOPs",
      2.0 * static_cast<double>(count) * std::pow(static_cast<double>(n), 3), [] { return bench::fma_roof<T>(); },
      [=] {
        make();
        gemm_batched(*ctx, T(1), View<const T, 3>(x->a->data(), {count, n, n}),
                     View<const T, 3>(x->b->data(), {count, n, n}), T(0), View<T, 3>(x->c->data(), {count, n, n}));
      },
      peers);
}

}  // namespace

int main(int argc, char** argv) {
#if defined(__linux__)
  // Where OpenBLAS does not know the processor, or is told so, it takes AVX2 kernels; it listens only while it loads.
  const char* chosen = std::getenv("OPENBLAS_CORETYPE");
  const char* threads = std::getenv("OMP_NUM_THREADS");
  if (*peers::onednn_name() != 0 && (threads == nullptr || std::string_view(threads) != "1")) {
    setenv("OMP_NUM_THREADS", "1", 1);
    execv("/proc/self/exe", argv);
  }
  if (*peers::openblas_name() != 0 && cpu_isa().has(Isa::avx512) &&
      (chosen == nullptr || std::string_view(chosen) != "SKYLAKEX")) {
    setenv("OPENBLAS_CORETYPE", "SKYLAKEX", 1);
    unsetenv("OPENBLAS_L2_SIZE");
    execv("/proc/self/exe", argv);
  }
#endif
  for (Index n : {64, 96, 128, 256, 512, 1024, 2048}) gemm_row<float, float>(n, n, n);
  for (Index n : {33, 63, 100, 200, 1000}) gemm_row<float, float>(n, n, n);
  for (Index tokens : {16, 64, 512, 2048}) {
    gemm_row<float, float>(tokens, 192, 192, true);
    gemm_row<float, float>(tokens, 512, 192, true);
    gemm_row<float, float>(tokens, 192, 512, true);
  }
  gemm_row<float, float>(192, 512, 2048);
  for (Index n : {64, 256, 1024, 2048}) gemm_row<double, double>(n, n, n);
  for (Index n : {256, 1024}) gemm_row<bf16, float>(n, n, n);
  for (Index n : {64, 256, 1024, 2048}) narrow_row<bf16, bf16, float>("bf16xbf16", n);
  for (Index n : {64, 256, 1024, 2048}) narrow_row<f16, f16, float>("f16xf16", n);
  for (Index n : {64, 256, 1024, 2048}) narrow_row<std::int8_t, std::int8_t, std::int32_t>("s8s8", n);
  for (Index n : {64, 256, 1024, 2048}) narrow_row<std::uint8_t, std::int8_t, std::int32_t>("u8s8", n);
  if (active_isa().has(Isa::amx_bf16))
    for (Index n : {1024, 2048})
      for (const auto precision : {Precision::bf16x6, Precision::bf16x3}) split_row(n, precision);
  for (Index n : {4, 8, 16, 32, 64}) batched_row<float>(n);
  for (Index n : {4, 8, 16, 32, 64}) batched_row<double>(n);
  epilogue_row<Gelu>(512, 2048, 512);
  epilogue_row<Relu>(512, 2048, 512);
  epilogue_row<Relu>(2048, 4096, 64);
  for (Index n : {192, 512, 1024}) syrk_row(n, 256);
  for (Index n : {64, 512, 4096}) ger_row(n);
  gemm_row<float, float>(512, 192, 192, true, 2);
  for (Index n : {256, 1024, 2048}) gemm_row<float, float>(n, n, n, false, 2);
  for (Index n : {2, 4, 8, 16}) gemv_row<float>(4096, 4096, false, n);
  for (Index n : {2, 4, 8, 16}) gemv_row<float>(512, 192, false, n);
  for (Index n : {2, 4, 8, 16}) gemv_row<bf16>(4096, 4096, false, n);
  for (Index n : {192, 512, 1024, 4096, 8192}) gemv_row<float>(n, n);
  for (Index n : {192, 512, 1024, 4096, 8192}) gemv_row<float>(n, n, true);
  for (Index n : {192, 512, 1024, 4096, 8192}) gemv_row<bf16>(n, n);
  std::printf("isa %s; OpenBLAS %s; oneDNN %s; libxsmm %s\n", isa_text(active_isa()).c_str(), peers::openblas_name(),
              peers::onednn_name(), peers::libxsmm_name());
  return bench::run_rows(argc, argv);
}
