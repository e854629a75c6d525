/// Sparse matrices times dense ones: useful GFLOP/s (two operations a nonzero that is not padding and a column) beside
/// the FMA roof, or, for a vector, GB/s of the format's own bytes beside reading as many. Peers: Eigen's compressed
/// rows (vs_eigen), GraphBLAS's where it is installed, this library's dense product (vs_dense), its compressed rows
/// where the row is of another format (vs_csr). One thread. spmm/<format>/4096x4096x<columns>/<percent of zeros>;
/// spmm/crossover/… shows from which sparsity on compressed rows win over the dense product.
/// conv1x1/<format>/<channels>x<channels>x<pixels> ends in a ReLU, as does its dense peer.
/// spmm_int8/<format>/<shape>/<percent of zeros>: pruned weights in int8 times bytes; the roof is the probe of int8
/// products, peers are dense products of int8 (vs_dense_int8) and f32 (vs_dense) and Eigen's compressed rows of f32.
/// Then transposed products, min-plus, rows gathered and scattered, sampled products, triangular solves, and
/// thresholded_gemv with half of the channels (vs_dense: gemv with all).
#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <harness.hpp>
#include <peer_sparse.hpp>
#include <poisson.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/kernels/map/map.hpp>
#include <tessera/matrix/bitmap.hpp>
#include <tessera/matrix/bsr.hpp>
#include <tessera/matrix/csr_delta.hpp>
#include <tessera/matrix/dia.hpp>
#include <tessera/matrix/nm.hpp>
#include <tessera/matrix/quantized_sparse.hpp>
#include <tessera/matrix/sell.hpp>
#include <tessera/matrix/tiled_csl.hpp>
#include <tessera/sparse/chess.hpp>
#include <tessera/sparse/conv.hpp>
#include <tessera/sparse/gather.hpp>
#include <tessera/sparse/sddmm.hpp>
#include <tessera/sparse/semiring.hpp>
#include <tessera/sparse/triangular_solve.hpp>

namespace {

using namespace tessera;

/// (m, n), about `zeros` percent of it zeros, which come in blocks of `down` rows.
Csr<float> random_sparse(Index m, Index n, int zeros, Index down) {
  Buffer<float> dense(m * n);
  const Philox draws(7);
  for (Index i = 0; i < m; ++i)
    for (Index j = 0; j < n; ++j)
      if (draws.uniform(static_cast<std::uint64_t>(i / down * n + j)) >= static_cast<float>(zeros) / 100)
        dense[i * n + j] = static_cast<float>((i + j) % 15) - 7.5f;
  return csr_from_dense(MatrixView<float>(dense.data(), m, n));
}
Csr<float> random_sparse(Index n, int zeros, Index down) { return random_sparse(n, n, zeros, down); }
/// Two of each four columns.
Csr<float> two_of_four(Index m, Index n) {
  Buffer<float> dense(m * n);
  for (Index i = 0; i < m; ++i)
    for (Index j = 0; j < n; ++j)
      if ((i + j) % 4 < 2) dense[i * n + j] = static_cast<float>((i + j) % 15) - 7.5f;
  return csr_from_dense(MatrixView<float>(dense.data(), m, n));
}
template <class A>
struct Operands {
  Csr<float> csr{};
  A a{};
  Buffer<float> dense{}, x{}, y{}, other{};
  Context ctx{};
  bool made = false;
};

std::function<void()> release;

template <class A, class W>
void convolve(Operands<A>& o, const W& weights, Index pixels) {
  sparse_conv1x1(o.ctx, weights, Channels<const float>(o.x.data(), {weights.cols(), 1, pixels}),
                 Channels<float>(o.y.data(), {weights.rows(), 1, pixels}), {{}, true});
}
struct Relu {
  template <class V>
  TESSERA_INLINE void operator()(V& y) const {
    y = max(V(0), y);
  }
};

template <class A>
void product_row(const std::string& name, Index n, std::function<Csr<float>()> make,
                 std::function<A(const Csr<float>&)> convert, bool with_dense = true, bool convolution = false) {
  auto o = std::make_shared<Operands<A>>();
  const auto prepare = [=] {
    if (o->made) return;
    if (release) release();  // of rows before
    release = [=] { *o = Operands<A>(); };
    o->made = true;
    o->csr = make();
    o->a = convert(o->csr);
    o->x = Buffer<float>(o->csr.cols() * n);
    std::fill(o->x.begin(), o->x.end(), 0.5f);
    o->y = Buffer<float>(o->csr.rows() * n);
#ifdef TESSERA_BENCH_GRAPHBLAS
    if constexpr (std::same_as<A, Csr<float>>)
      peers::make_graphblas(o->csr.rows(), o->csr.cols(), o->csr.row_ptr().data(), o->csr.col_idx().data(),
                            o->csr.values().data(), n);
#endif
    if (!with_dense) return;
    o->dense = Buffer<float>(o->csr.rows() * o->csr.cols());
    for (Index i = 0; i < o->dense.size(); ++i) o->dense[i] = 0.25f;
  };
  const auto in = [=] { return MatrixView<const float>(o->x.data(), o->csr.cols(), n); };
  const auto out = [=] { return MatrixView<float>(o->y.data(), o->csr.rows(), n); };
  std::vector<bench::Peer> peers{{"eigen", [=] {
                                    prepare();
                                    peers::eigen_sparse(o->csr.rows(), o->csr.cols(), o->csr.nnz(),
                                                        o->csr.row_ptr().data(), o->csr.col_idx().data(),
                                                        o->csr.values().data(), o->x.data(), o->y.data(), n);
                                  }}};
#ifdef TESSERA_BENCH_GRAPHBLAS
  if constexpr (std::same_as<A, Csr<float>>)
    peers.push_back({"graphblas", [=] {
                       prepare();
                       peers::graphblas_sparse();
                     }});
#endif
  if (with_dense)
    peers.push_back({"dense", [=] {
                       prepare();
                       const MatrixView<const float> dense(o->dense.data(), o->csr.rows(), o->csr.cols());
                       gemm(o->ctx, 1.0f, dense, in(), 0.0f, out());
                       if (convolution) map(o->ctx, Relu{}, VectorView<float>(o->y.data(), o->y.size()));
                     }});
  if constexpr (!std::same_as<A, Csr<float>>)
    peers.push_back({"csr", [=] {
                       prepare();
                       convolution ? convolve(*o, o->csr, n) : o->csr.apply(o->ctx, Op::none, 1, in(), 0, out());
                     }});
  auto measured = std::make_shared<std::optional<bench::Rounds>>();  // the library calls a benchmark more than once
  benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
    prepare();
    const auto run = [=] { convolution ? convolve(*o, o->a, n) : o->a.apply(o->ctx, Op::none, 1, in(), 0, out()); };
    const auto roof = [=] {
      if (n > 1) return bench::fma_roof<float>();
      if (o->other.size() == 0) o->other = Buffer<float>(static_cast<Index>(bytes(o->a)) / 4);
      return bench::read_roof(o->other);
    };
    if (!*measured) *measured = bench::take_turns(roof, run, peers);
    const bench::Rounds& rounds = **measured;
    for (auto _ : state) run();
    const double flops = 2.0 * static_cast<double>(o->csr.nnz()) * static_cast<double>(n);
    const double work = n > 1 ? flops : static_cast<double>(bytes(o->a));
    state.counters["GFLOPs"] = flops / rounds.ours * 1e-9;
    if (n == 1) state.counters["GBs"] = work / rounds.ours * 1e-9;
    state.counters["roof"] = work / rounds.ours * 1e-9 / rounds.roof;
    for (std::size_t p = 0; p < peers.size(); ++p)
      state.counters["vs_" + peers[p].name] = rounds.peers[p] / rounds.ours;
  })->Unit(benchmark::kMicrosecond);
}

double int8_roof() {
  for (const auto probe : {roof::amx_i8, roof::dot_i8, roof::dot_i8_by_pairs})
    if (const double rate = probe(); rate > 0) return rate;
  return bench::fma_roof<float>();
}

template <class Store>
struct BytesOperands {
  Csr<float> csr{};
  QuantizedSparse<Store> a{};
  Buffer<std::int8_t> w{};
  Buffer<std::uint8_t> x{};
  Buffer<std::int32_t> sums{};
  Buffer<float> dense{}, fx{}, fy{};
  Context ctx{};
};

/// A (m,k) times k × n bytes, sums in int32.
template <class Store>
void bytes_row(const std::string& name, Index m, Index k, Index n, std::function<Csr<float>()> make,
               std::function<QuantizedSparse<Store>(const Csr<float>&)> convert) {
  auto o = std::make_shared<BytesOperands<Store>>();
  const auto prepare = [=] {
    if (o->x.size() != 0) return;
    if (release) release();  // of rows before
    release = [=] { *o = BytesOperands<Store>(); };
    o->csr = make();
    o->a = convert(o->csr);
    o->x = Buffer<std::uint8_t>(k * n);
    o->fx = Buffer<float>(k * n);
    o->w = Buffer<std::int8_t>(m * k);
    o->dense = Buffer<float>(m * k);
    o->sums = Buffer<std::int32_t>(m * n);
    o->fy = Buffer<float>(m * n);
    for (Index i = 0; i < k * n; ++i) {
      o->x[i] = static_cast<std::uint8_t>(i * 7);
      o->fx[i] = 0.5f;
    }
    for (Index i = 0; i < m * k; ++i) {
      o->w[i] = static_cast<std::int8_t>(i * 5);
      o->dense[i] = 0.25f;
    }
  };
  const auto x = [=] { return MatrixView<const std::uint8_t>(o->x.data(), k, n); };
  const auto sums = [=] { return MatrixView<std::int32_t>(o->sums.data(), m, n); };
  const std::vector<bench::Peer> peers{
      {"dense_int8",
       [=] {
         prepare();
         gemm(o->ctx, 1, MatrixView<const std::int8_t>(o->w.data(), m, k), x(), 0, sums(), {.zero_b = 128});
       }},
      {"dense",
       [=] {
         prepare();
         gemm(o->ctx, 1.0f, MatrixView<const float>(o->dense.data(), m, k), MatrixView<const float>(o->fx.data(), k, n),
              0.0f, MatrixView<float>(o->fy.data(), m, n));
       }},
      {"eigen", [=] {
         prepare();
         peers::eigen_sparse(m, k, o->csr.nnz(), o->csr.row_ptr().data(), o->csr.col_idx().data(),
                             o->csr.values().data(), o->fx.data(), o->fy.data(), n);
       }}};
  auto measured = std::make_shared<std::optional<bench::Rounds>>();
  benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
    prepare();
    const auto run = [=] { o->a.multiply(o->ctx, 1, x(), 0, sums(), 128); };
    if (!*measured) *measured = bench::take_turns(int8_roof, run, peers);
    for (auto _ : state) run();
    const double rate = 2e-9 * static_cast<double>(o->csr.nnz()) * static_cast<double>(n) / (*measured)->ours;
    state.counters["GOPs"] = rate;
    state.counters["roof"] = rate / (*measured)->roof;
    for (std::size_t p = 0; p < peers.size(); ++p)
      state.counters["vs_" + peers[p].name] = (*measured)->peers[p] / (*measured)->ours;
  })->Unit(benchmark::kMicrosecond);
}

Csr<float> itself(const Csr<float>& A) { return A; }

struct Parts {
  Csr<float> A{}, other{};
  Buffer<float> x{}, y{}, w{};
  std::vector<std::int32_t> ids{};
  std::shared_ptr<TriangularSolver<float>> solver{};
  Context ctx{};

  MatrixView<const float> in(Index n) const { return {x.data(), x.size() / n, n}; }
  MatrixView<float> out(Index n) { return {y.data(), y.size() / n, n}; }
};
/// Made when its row begins, which frees what the row before had.
std::function<Parts&()> later(std::function<Parts()> make) {
  auto made = std::make_shared<std::optional<Parts>>();
  return [=]() -> Parts& {
    if (!*made) {
      if (release) release();
      release = [=] { made->reset(); };
      made->emplace(make());
      std::fill(made->value().x.begin(), made->value().x.end(), 0.5f);
    }
    return **made;
  };
}
/// Of memory that stays: what is measured after new pages waits until those are written back.
std::function<double()> reading(double bytes) {
  return [=] {
    static Buffer<float> memory;
    if (const auto size = static_cast<Index>(bytes / 4); memory.size() != size) memory = Buffer<float>(size);
    return bench::read_roof(memory);
  };
}
template <class F>
std::function<void()> with(const std::function<Parts&()>& parts, F f) {
  return [=] { f(parts()); };
}

void other_rows() {
  constexpr Index N = 4096;
  constexpr double nnz = 0.1 * N * N;
  for (const Index n : {1, 32}) {
    const std::string shape = detail::concat("/f32/4096x4096x", n, "/90%"), unit = n == 1 ? "GBs" : "GFLOPs";
    const double work = nnz * (n == 1 ? 8.0 : 2.0 * static_cast<double>(n));
    const auto roof = n == 1 ? reading(work) : std::function<double()>(bench::fma_roof<float>);
    const auto p = later([n] {
      Parts made{.A = random_sparse(N, 90, 1), .x = Buffer<float>(N * n), .y = Buffer<float>(N * n)};
      made.other = made.A.transposed();
      return made;
    });
    bench::row("spmm_transposed/csr" + shape, unit, work, roof,
               with(p, [n](Parts& o) { o.A.apply(o.ctx, Op::transpose, 1, o.in(n), 0, o.out(n)); }),
               {{"eigen", with(p,
                               [n](Parts& o) {
                                 peers::eigen_sparse_transposed(N, N, o.A.nnz(), o.A.row_ptr().data(),
                                                                o.A.col_idx().data(), o.A.values().data(), o.x.data(),
                                                                o.y.data(), n);
                               })},
                {"csr", with(p, [n](Parts& o) { o.other.apply(o.ctx, Op::none, 1, o.in(n), 0, o.out(n)); })}});
    std::vector<bench::Peer> peers{
        {"csr", with(p, [n](Parts& o) { o.A.apply(o.ctx, Op::none, 1, o.in(n), 0, o.out(n)); })}};
#ifdef TESSERA_BENCH_GRAPHBLAS
    peers.push_back({"graphblas", with(p, [n, made = std::make_shared<bool>()](Parts& o) {
                       if (!std::exchange(*made, true))
                         peers::make_graphblas(N, N, o.A.row_ptr().data(), o.A.col_idx().data(), o.A.values().data(),
                                               n);
                       peers::graphblas_sparse(true);
                     })});
#endif
    bench::row("min_plus/csr" + shape, unit, work, roof,
               with(p, [n](Parts& o) { semiring_product(o.ctx, MinPlus<float>{}, o.A, o.in(n), o.out(n)); }), peers);
  }
  for (const Index d : {16, 64, 256}) {
    constexpr Index E = 1 << 17;
    const Index table = (Index{1} << 26) / d;  // 256 MB
    const auto p = later([=] {
      Parts made{.x = Buffer<float>(table * d), .y = Buffer<float>(E * d)};
      const Philox draws(3);
      for (std::uint64_t e = 0; e < static_cast<std::uint64_t>(E); ++e)
        made.ids.push_back(static_cast<std::int32_t>(draws.below(e, static_cast<std::uint64_t>(table))));
      return made;
    });
    const double bytes = 8.0 * static_cast<double>(E * d);
    bench::row(detail::concat("gather/f32/", table, "x", d, "/", E), "GBs", bytes, reading(bytes),
               with(p, [d](Parts& o) { gather_rows<float, std::int32_t>(o.ctx, o.in(d), o.ids, o.out(d)); }),
               {{"loop", with(p, [d](Parts& o) { peers::gather(o.x.data(), o.ids.data(), E, d, o.y.data()); })}});
    bench::row(detail::concat("scatter_add/f32/", table, "x", d, "/", E), "GBs", 1.5 * bytes, reading(1.5 * bytes),
               with(p,
                    [=](Parts& o) {
                      scatter_add_rows<float, std::int32_t>(o.ctx, o.ids, MatrixView<const float>(o.y.data(), E, d),
                                                            MatrixView<float>(o.x.data(), table, d));
                    }),
               {{"loop", with(p, [d](Parts& o) { peers::scatter(o.y.data(), o.ids.data(), E, d, o.x.data()); })}});
  }
  for (const int zeros : {90, 99}) {
    constexpr Index K = 64;
    const auto p = later([=] {
      return Parts{.A = random_sparse(N, zeros, 1),
                   .x = Buffer<float>(N * K),
                   .y = Buffer<float>(N * K),
                   .w = Buffer<float>(N * N)};
    });
    const auto Y = [](Parts& o) { return MatrixView<const float>(o.y.data(), N, K); };
    bench::row(detail::concat("sddmm/f32/4096x4096x64/", zeros, "%"), "GFLOPs", 0.02 * (100 - zeros) * N * N * K,
               bench::fma_roof<float>,
               with(p,
                    [=](Parts& o) {
                      sddmm_values(o.ctx, 1.0f, o.A, o.in(K), Y(o),
                                   std::span<float>(o.w.data(), static_cast<std::size_t>(o.A.nnz())));
                    }),
               {{"eigen", with(p,
                               [](Parts& o) {
                                 peers::eigen_sddmm(N, N, K, o.A.row_ptr().data(), o.A.col_idx().data(), o.x.data(),
                                                    o.y.data(), o.w.data());
                               })},
                {"dense", with(p, [=](Parts& o) {
                   gemm(o.ctx, 1.0f, o.in(K), Y(o).transposed(), 0.0f, MatrixView<float>(o.w.data(), N, N));
                 })}});
  }
  for (const Index n : {1, 8}) {
    constexpr Index side = 512;
    const auto p = later([n] {
      Parts made{.A = poisson<float>(side), .x = Buffer<float>(side * side * n), .y = Buffer<float>(side * side * n)};
      made.solver = std::make_shared<TriangularSolver<float>>(made.A, TriangularOptions{.lower = true});
      return made;
    });
    const auto restart = [](Parts& o) { std::copy(o.x.begin(), o.x.end(), o.y.begin()); };
    bench::row(detail::concat("triangular_solve/f32/poisson512x", n), "GFLOPs",
               6.0 * side * side * static_cast<double>(n), {},
               with(p,
                    [=](Parts& o) {
                      restart(o);
                      o.solver->solve(o.ctx, o.out(n));
                    }),
               {{"eigen", with(p, [=](Parts& o) {
                   restart(o);
                   peers::eigen_solve_lower(side * side, o.A.nnz(), o.A.row_ptr().data(), o.A.col_idx().data(),
                                            o.A.values().data(), o.y.data(), n);
                 })}});
  }
  for (const Index out : {4096, 11008}) {
    const auto p = later([out] {
      Parts made{.x = Buffer<float>(N), .y = Buffer<float>(out), .w = Buffer<float>(N * out)};
      std::fill(made.w.begin(), made.w.end(), 0.25f);
      for (Index c = 0; c < N; ++c)
        made.ids.push_back(static_cast<std::int32_t>(Philox(5).below(static_cast<std::uint64_t>(c), 2)));
      return made;
    });
    bench::row(
        detail::concat("thresholded_gemv/f32/4096x", out, "/50%"), "GBs", 2.0 * static_cast<double>(N * out),
        reading(4.0 * static_cast<double>(N * out)),
        with(p,
             [out](Parts& o) {
               std::vector<float> x(o.ids.begin(), o.ids.end());
               const std::vector<float> threshold(N, 0.5f);
               thresholded_gemv<float>(o.ctx, {o.w.data(), N, out}, x, threshold,
                                       {o.y.data(), static_cast<std::size_t>(out)});
             }),
        {{"dense", with(p,
                        [out](Parts& o) {
                          gemm(o.ctx, 1.0f, MatrixView<const float>(o.w.data(), N, out).transposed(), o.in(1), 0.0f,
                               o.out(1));
                        })},
         {"eigen", with(p, [out](Parts& o) { peers::eigen_gemv(N, out, o.w.data(), o.x.data(), o.y.data()); })}});
  }
}

}  // namespace

int main(int argc, char** argv) {
  constexpr Index N = 4096;
  const auto shape = [](const char* format, Index n, int zeros) {
    return detail::concat(n == 1 ? "spmv/" : "spmm/", format, "/f32/4096x4096x", n, '/', zeros, '%');
  };
  for (const Index n : {32, 128})
    for (const int zeros : {50, 80, 90, 99})
      product_row<Csr<float>>(
          shape("csr", n, zeros), n, [=] { return random_sparse(N, zeros, 1); }, itself);
  for (const int zeros : {20, 40, 60, 70})
    product_row<Csr<float>>(
        detail::concat("spmm/crossover/f32/4096x4096x128/", zeros, '%'), 128,
        [=] { return random_sparse(N, zeros, 1); }, itself);
  for (const Index n : {16, 32, 128})
    for (const int zeros : {50, 70, 80, 90}) {
      product_row<Bsr<float>>(
          shape("bsr4x1", n, zeros), n, [=] { return random_sparse(N, zeros, 4); },
          [](const Csr<float>& A) { return bsr_from_csr(A, 4, 1); });
      if (n < 128)
        product_row<TiledCsl<float>>(
            shape("tiled_csl", n, zeros), n, [=] { return random_sparse(N, zeros, 1); }, tiled_csl_from_csr<float>);
    }
  for (const int zeros : {50, 80, 90, 99}) {
    product_row<Csr<float>>(
        shape("csr", 1, zeros), 1, [=] { return random_sparse(N, zeros, 1); }, itself);
    product_row<Sell<float>>(
        shape("sell", 1, zeros), 1, [=] { return random_sparse(N, zeros, 1); },
        [](const Csr<float>& A) { return sell_from_csr(A); });
    product_row<CsrDelta<float>>(
        shape("csr_delta", 1, zeros), 1, [=] { return random_sparse(N, zeros, 1); }, csr_delta_from_csr<float>);
  }
  for (const Index n : {1, 32})
    for (const int zeros : {50, 80, 90})
      product_row<Bitmap<float>>(
          shape("bitmap", n, zeros), n, [=] { return random_sparse(N, zeros, 1); }, bitmap_from_csr<float>);
  for (const Index n : {1, 4})
    product_row<Nm<float>>(
        shape("2:4", n, 50), n, [=] { return two_of_four(N, N); },
        [](const Csr<float>& A) { return nm_from_csr(A, 2, 4); });
  for (const Index m : {768, 3072}) {
    const auto named = [m](const std::string& format, int zeros) {
      return detail::concat("spmm_int8/", format, '/', m, "x768x128/", zeros, '%');
    };
    for (const Index down : {4, 16})
      for (const int zeros : {70, 75, 80, 85, 90})
        bytes_row<Bsr<Int8Code>>(
            named(detail::concat("bsr", down, "x1"), zeros), m, 768, 128,
            [=] { return random_sparse(m, 768, zeros, down); },
            [=](const Csr<float>& A) { return pack_block_sparse(A, down); });
    bytes_row<Nm<Int8Code>>(
        named("2:4", 50), m, 768, 128, [=] { return two_of_four(m, 768); },
        [](const Csr<float>& A) { return pack_n_of_m(A, 2, 4); });
    bytes_row<Csr<Int8Code>>(
        named("csr", 90), m, 768, 128, [=] { return random_sparse(m, 768, 90, 1); },
        [](const Csr<float>& A) { return quantize_sparse(A); });
  }
  product_row<Csr<float>>(
      "spmv/csr/f32/poisson512", 1, [] { return poisson<float>(512); }, itself, false);
  product_row<Sell<float>>(
      "spmv/sell/f32/poisson512", 1, [] { return poisson<float>(512); },
      [](const Csr<float>& A) { return sell_from_csr(A); }, false);
  product_row<CsrDelta<float>>(
      "spmv/csr_delta/f32/poisson512", 1, [] { return poisson<float>(512); }, csr_delta_from_csr<float>, false);
  product_row<Dia<float>>(
      "spmv/dia/f32/poisson512", 1, [] { return poisson<float>(512); }, dia_from_csr<float>, false);
  for (const auto& layer : {std::pair<Index, Index>{64, 3136}, {128, 3136}, {256, 784}, {512, 196}})
    for (const int zeros : {80, 90}) {
      const Index C = layer.first, pixels = layer.second;
      const auto name = [&](const char* format) {
        return detail::concat("conv1x1/", format, "/f32/", C, 'x', C, 'x', pixels, '/', zeros, '%');
      };
      product_row<Csr<float>>(
          name("csr"), pixels, [=] { return random_sparse(C, zeros, 1); }, itself, true, true);
      product_row<Bsr<float>>(
          name("bsr4x1"), pixels, [=] { return random_sparse(C, zeros, 4); },
          [](const Csr<float>& A) { return bsr_from_csr(A, 4, 1); }, true, true);
    }
  other_rows();
  return tessera::bench::run_rows(argc, argv);
}
