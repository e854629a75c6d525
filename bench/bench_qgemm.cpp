/// Block-quantized products, one thread. qgemm/<format>/MxKxN. Up to 16 columns the weights come from memory (copies of
/// the matrix, larger together than any cache, are taken in turn) and the roof is reading it: GBs counts the weights'
/// bytes. More columns are measured against the int8 dot product (AMX, VPDPBUSD, or VPMADDUBSW and VPMADDWD), or f32
/// multiply-adds where there is none. vs_eigen is Eigen's f32 product of the same shape, its weights from memory too.
#include <algorithm>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <harness.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/matrix/quantized.hpp>

namespace peers {
void eigen_product(const float* w, const float* x, float* y, std::ptrdiff_t m, std::ptrdiff_t n, std::ptrdiff_t k);
}

namespace {

using namespace tessera;

/// GOP/s of int8 dot products in registers on one core, of f32 multiply-adds where there are none.
double dot_roof() {
  for (const auto probe : {roof::amx_i8, roof::dot_i8, roof::dot_i8_by_pairs})
    if (const double rate = probe(); rate > 0) return rate;
  return bench::fma_roof<float>();
}

constexpr Index beyond_caches = Index{160} << 20;  // bytes

struct Eigens {
  Buffer<float> w, x, y;
};

template <class F>
struct Operands {
  std::vector<Quantized<F>> weights;
  Buffer<float> x, y;
  std::size_t turn = 0;

  void make(Index m, Index k, Index n) {
    const Philox draws(1);
    const Index some = std::min<Index>(m, 32);  // rows that are quantized; the others repeat them
    Buffer<float> w(some * k, uninitialized);
    x = Buffer<float>(k * n);
    y = Buffer<float>(m * n);
    for (Index i = 0; i < w.size(); ++i) w[i] = draws.uniform(static_cast<std::uint64_t>(i)) - 0.5f;
    for (Index i = 0; i < x.size(); ++i) x[i] = draws.uniform(static_cast<std::uint64_t>(i)) - 0.5f;
    Context ctx;
    const auto first = quantize<F>(ctx, MatrixView<const float>(w.data(), some, k)).blocks();
    Buffer<typename F::Block> blocks(m * ((k + F::block_size - 1) / F::block_size), uninitialized);
    for (Index i = 0; i < blocks.size(); ++i) blocks[i] = first[i % first.size()];
    const Index copies = n > 16 ? 1 : std::max<Index>(1, beyond_caches / static_cast<Index>(blocks.bytes()));
    for (Index i = 0; i < copies; ++i)
      weights.emplace_back(m, k,
                           std::span<const typename F::Block>(blocks.data(), static_cast<std::size_t>(blocks.size())));
  }
};

std::function<void()> release_last;  // the operands of the row before: together they would fill the memory

const Buffer<float>& memory_to_read() {
  static const Buffer<float> memory(beyond_caches / 4);
  return memory;
}

template <class F>
void product_row(Index m, Index k, Index n) {
  const std::string name = detail::concat("qgemm/", F::name, "/", m, "x", k, "x", n);
  auto ours = std::make_shared<Operands<F>>();
  auto theirs = std::make_shared<Eigens>();
  auto ctx = std::make_shared<Context>();
  const bool streamed = n <= 16;
  const double operations = 2.0 * static_cast<double>(m) * static_cast<double>(k) * static_cast<double>(n);
  const double bytes = static_cast<double>(m * ((k + F::block_size - 1) / F::block_size)) *
                       static_cast<double>(sizeof(typename F::Block));
  bench::row(
      name, streamed ? "GBs" : "GOPs", streamed ? bytes : operations,
      [=] {
        if (!streamed) return dot_roof();
        return bench::read_roof(memory_to_read());
      },
      [=] {
        if (ours->weights.empty()) {
          if (release_last) release_last();
          release_last = [=] {
            *ours = {};
            *theirs = {};
          };
          ours->make(m, k, n);
        }
        const auto& W = ours->weights[ours->turn++ % ours->weights.size()];
        W.apply(*ctx, Op::none, 1.0f, MatrixView<const float>(ours->x.data(), {k, n}, {1, k}), 0.0f,
                MatrixView<float>(ours->y.data(), {m, n}, {1, m}));
      },
      {{"eigen", [=] {
          if (theirs->w.size() == 0) *theirs = {Buffer<float>(m * k), Buffer<float>(k * n), Buffer<float>(m * n)};
          peers::eigen_product(theirs->w.data(), theirs->x.data(), theirs->y.data(), m, n, k);
        }}});
}

template <class F>
void format_rows() {
  for (const Index n : {1, 4, 8, 16, 512}) product_row<F>(4096, 4096, n);
  product_row<F>(4096, 11008, 1);
  product_row<F>(256, 256, 512);
}
template <class... F>
void brief_rows() {
  (product_row<F>(4096, 4096, 1), ...);
  (product_row<F>(4096, 4096, 512), ...);
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  format_rows<Q8_0>();
  format_rows<Q4_0>();
  format_rows<Q4_K>();
  format_rows<Q2_K>();
  brief_rows<Q4_1, Q5_0, Q5_1, Q3_K, Q5_K, Q6_K, IQ1_M, IQ2_S, IQ3_S, IQ4_NL, IQ4_XS, MXFP4, TQ1_0, TQ2_0, Q1_0,
             Q2_0>();
  benchmark::RunSpecifiedBenchmarks();
}
