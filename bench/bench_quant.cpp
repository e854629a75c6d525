/// Quantized products that are not of block formats, one thread. fixed_gemm/b<bits>/MxNxK: 16-bit dynamic fixed point,
/// its roof the f32 multiply-adds of this machine, vs_f32 our own f32 gemm of the same shape.
/// group_sparse/W4S<percent>/MxKxN: 4-bit groups of 16, some pruned, from memory; the roof is reading their bytes,
/// vs_f32 our f32 product of the same shape.
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include <harness.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/quant/dynamic_fixed_point.hpp>
#include <tessera/quant/group_sparse.hpp>

namespace {

using namespace tessera;

Buffer<float> normals(Index n, std::uint64_t seed) {
  Buffer<float> x(n, uninitialized);
  const Philox draws(seed);
  for (Index i = 0; i < n; ++i) x[i] = static_cast<float>(draws.normal(static_cast<std::uint64_t>(i)));
  return x;
}

void fixed_row(int bits, Index n, bool round) {
  struct Operands {
    Context ctx;
    Buffer<float> a, b, c;
    FixedPointMatrix A, B;
    Operands(int bits_, Index n_)
        : a(normals(n_ * n_, 1)),
          b(normals(n_ * n_, 2)),
          c(n_ * n_),
          A(ctx, MatrixView<const float>(a.data(), n_, n_), bits_),
          B(ctx, MatrixView<const float>(b.data(), n_, n_), bits_) {}
  };
  const auto o = std::make_shared<Operands>(bits, n);
  const auto of = [n](Buffer<float>& x) { return MatrixView<float>(x.data(), n, n); };
  bench::row(
      detail::concat("fixed_gemm/b", bits, "/", n, "x", n, "x", n, round ? "/rounding_both" : ""), "GFLOPs",
      2.0 * std::pow(static_cast<double>(n), 3), [] { return bench::fma_roof<float>(); },
      [=] {
        if (round) {
          o->A.assign(o->ctx, of(o->a));
          o->B.assign(o->ctx, of(o->b));
        }
        fixed_point_gemm(o->ctx, 1, o->A.view(), o->B.view(), 0, of(o->c));
      },
      {{"f32", [=] { gemm<float>(o->ctx, 1, of(o->a), of(o->b), 0, of(o->c)); }}});
}

void sparse_row(Index M, Index K, Index n, double sparsity) {
  struct Operands {
    Context ctx;
    std::unique_ptr<GroupSparse> W;
    Buffer<float> dense, x, y;
  };
  const Index each = static_cast<Index>((1 - sparsity) * static_cast<double>(K / 16));
  const auto o = std::make_shared<Operands>();
  const auto make = [=] {
    if (o->W) return;
    const Philox draws(3);
    Buffer<std::int32_t> begin(M + 1);
    Buffer<std::uint16_t> columns(M * each);
    Buffer<SparseGroup> groups(M * each);
    for (Index i = 0; i < M; ++i) {
      for (Index e = 0; e < each; ++e) {  // one of every K / 16 / each, at random
        const Index low = e * (K / 16) / each, high = (e + 1) * (K / 16) / each;
        const auto at = static_cast<std::uint64_t>(i * each + e);
        columns[i * each + e] = static_cast<std::uint16_t>(
            low + static_cast<Index>(draws.below(at, static_cast<std::uint64_t>(high - low))));
        SparseGroup& g = groups[i * each + e];
        g.d = f16(0.01f);
        g.m = f16(-0.08f);
        for (int b = 0; b < 8; ++b) g.qs[b] = static_cast<std::uint8_t>(at * 37 + static_cast<std::uint64_t>(b) * 11);
      }
      begin[i + 1] = static_cast<std::int32_t>((i + 1) * each);
    }
    o->W = std::make_unique<GroupSparse>(K, std::move(begin), std::move(columns), std::move(groups));
    o->dense = Buffer<float>(M * K);
    o->x = normals(K * n, 4);
    o->y = Buffer<float>(M * n);
  };
  const double bytes = static_cast<double>(M * each) * (sizeof(SparseGroup) + 2) + 4.0 * static_cast<double>(M + 1);
  static const Buffer<float> memory(Index{40} << 20);
  const auto X = [=] { return MatrixView<const float>(o->x.data(), {K, n}, {1, K}); };
  const auto Y = [=] { return MatrixView<float>(o->y.data(), {M, n}, {1, M}); };
  bench::row(
      detail::concat("group_sparse/W4S", static_cast<int>(100 * sparsity), "/", M, "x", K, "x", n), "GBs", bytes,
      [] { return bench::read_roof(memory); },
      [=] {
        make();
        o->W->apply(o->ctx, Op::none, 1, X(), 0, Y());
      },
      {{"f32", [=] {
          make();
          gemm<float>(o->ctx, 1, MatrixView<const float>(o->dense.data(), M, K), X(), 0, Y());
        }}});
}

}  // namespace

int main(int argc, char** argv) {
  for (const Index n : {256, 1024})
    for (const int bits : {12, 14, 15, 16}) fixed_row(bits, n, false);
  fixed_row(15, 1024, true);
  for (const Index n : {1, 2, 4, 8}) sparse_row(32768, 4096, n, 0.5);
  return bench::run_rows(argc, argv);
}
