/// Quantized products that are not of block formats, one thread. fixed_gemm/b<bits>/MxNxK: 16-bit dynamic fixed point,
/// its roof the f32 multiply-adds of this machine, vs_f32 our own f32 gemm of the same shape.
#include <cmath>
#include <functional>
#include <memory>
#include <string>

#include <harness.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/quant/dynamic_fixed_point.hpp>

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

}  // namespace

int main(int argc, char** argv) {
  for (const Index n : {256, 1024})
    for (const int bits : {12, 14, 15, 16}) fixed_row(bits, n, false);
  fixed_row(15, 1024, true);
  return bench::run_rows(argc, argv);
}
