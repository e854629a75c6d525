/// Structured matrices: the share of the roof of their own operations or bytes, and the dense product of the same shape
/// by this library (vs_dense) and by Eigen, compiled for this machine (vs_eigen). One thread. Rows named
/// <structure>/crossover/<n> show from which size structure wins.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include <harness.hpp>
#include <peer_structured.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/kernels/batched/batched.hpp>
#include <tessera/kernels/fwht/fwht.hpp>
#include <tessera/matrix/butterfly.hpp>
#include <tessera/matrix/circulant.hpp>
#include <tessera/matrix/hadamard.hpp>
#include <tessera/matrix/kronecker.hpp>
#include <tessera/matrix/low_rank.hpp>
#include <tessera/matrix/monarch.hpp>
#include <tessera/matrix/monarch_chain.hpp>
#include <tessera/matrix/monarch_product.hpp>
#include <tessera/matrix/quantized_monarch.hpp>
#include <tessera/matrix/toeplitz.hpp>
#include <tessera/methods/kron_sbl.hpp>

namespace {

using namespace tessera;

inline Buffer<float> draws(Index n, std::uint64_t seed) {
  Buffer<float> values(n, uninitialized);
  const Philox philox(seed);
  for (Index i = 0; i < n; ++i) values[i] = static_cast<float>(philox.uniform(static_cast<std::uint64_t>(i))) - 0.5f;
  return values;
}

/// The best of several readings of as many other bytes.
double resident_read_roof(Buffer<float>& other, Index bytes) {
  if (other.size() == 0) other = Buffer<float>(bytes / 4);
  double best = 0;
  for (Index i = 0; i < std::max<Index>(1, (Index{1} << 23) / bytes); ++i)
    best = std::max(best, bench::read_roof(other));
  return best;
}

/// What a row multiplies: the structured matrix, the dense one of its shape, n columns. Made when the row runs.
template <class A>
struct Case {
  std::function<A()> make;
  Index n = 1;
  bool column_major = false;
  std::unique_ptr<A> a{};
  Buffer<float> dense{}, x{}, y{}, other{};
  Context ctx{};

  void prepare() {
    if (a) return;
    a = std::make_unique<A>(make());
    dense = draws(a->rows() * a->cols(), 1);
    x = draws(a->cols() * n, 2);
    y = draws(a->rows() * n, 3);
  }
  MatrixView<const float> in() const {
    return column_major ? MatrixView<const float>(x.data(), n, a->cols()).transposed()
                        : MatrixView<const float>(x.data(), a->cols(), n);
  }
  MatrixView<float> out() {
    return column_major ? MatrixView<float>(y.data(), n, a->rows()).transposed()
                        : MatrixView<float>(y.data(), a->rows(), n);
  }
};

/// One product of `make()` with n columns. Few columns are measured in bytes of the structure, others in its flops.
template <class A>
void product_row(const std::string& name, Index n, std::function<A()> make, bool transposed = false,
                 bool column_major = false, std::vector<bench::Peer> more = {}) {
  auto c = std::make_shared<Case<A>>();
  c->make = std::move(make);
  c->n = n;
  c->column_major = column_major;
  const Op op = transposed ? Op::transpose : Op::none;
  const A sample = c->make();
  const double work = n == 1 ? static_cast<double>(bytes(sample)) : flops(sample, n);
  const Index size = static_cast<Index>(bytes(sample));
  std::vector<bench::Peer> peers{
      {"dense",
       [=] {
         gemm(c->ctx, 1.0f, MatrixView<const float>(c->dense.data(), c->a->rows(), c->a->cols()), c->in(), 0.0f,
              c->out());
       }},
      {"eigen", [=] { peers::eigen_dense(c->dense.data(), c->x.data(), c->y.data(), c->a->rows(), n, c->a->cols()); }}};
  for (auto& peer : more) peers.push_back(std::move(peer));
  const auto run = [=] {
    c->prepare();
    c->a->apply(c->ctx, op, 1.0f, c->in(), 0.0f, c->out());
  };
  bench::row(
      name, n == 1 ? "GBs" : "GFLOPs", work,
      [=] {
        const double roof = n == 1 ? resident_read_roof(c->other, size) : bench::fma_roof<float>();
        run();  // the dense peers leave nothing in the caches
        return roof;
      },
      run, peers);
}

Monarch<float> random_monarch(Index n, Index blocks, Index rank = 1) {
  Monarch<float> M(n, n, blocks, blocks, rank);
  const auto values = draws(M.parameter_count(), 4);
  std::copy(values.begin(), values.end(), M.parameters().begin());
  return M;
}

void monarch_rows() {
  const auto monarch = [](Index n, Index blocks, Index columns, bool transposed, bool column_major) {
    const std::string variant = detail::concat(transposed ? "/transposed" : "", column_major ? "/columns" : "");
    product_row<Monarch<float>>(
        detail::concat("monarch/f32/", n, "b", blocks, "x", columns, variant), columns,
        [=] { return random_monarch(n, blocks); }, transposed, column_major);
  };
  for (Index columns : {64, 256, 1}) {
    monarch(4096, 64, columns, false, false);
    monarch(4096, 64, columns, true, false);
  }
  monarch(4096, 64, 64, false, true);
  monarch(4096, 64, 64, true, true);
  monarch(1024, 32, 64, false, false);
  monarch(1024, 32, 1, false, false);
  monarch(2304, 48, 1, false, false);
  monarch(16384, 128, 64, false, false);
  for (Index root : {4, 8, 16, 32})
    for (Index columns : {1, 64})
      product_row<Monarch<float>>(detail::concat("monarch/crossover/", root * root, "x", columns), columns,
                                  [=] { return random_monarch(root * root, root); });
}

/// Two Monarch matrices as one operator: of its own operations, and against one after the other.
void product_rows() {
  struct Operands {
    Monarch<float> a, b;
    Buffer<float> x, middle, y;
    Context ctx;
  };
  const auto row = [](const std::string& shape, Index m, Index k, Index blocks, Index columns) {
    auto o = std::make_shared<Operands>();
    const auto filled = [=](Index rows, Index cols) {
      Monarch<float> M(rows, cols, blocks, blocks);
      const auto values = draws(M.parameter_count(), 12);
      std::copy(values.begin(), values.end(), M.parameters().begin());
      return M;
    };
    o->a = filled(m, k);
    o->b = filled(k, m);
    o->x = draws(m * columns, 13);
    o->middle = draws(k * columns, 14);
    o->y = draws(m * columns, 15);
    const MonarchProduct<float> product = monarch_product(o->a, o->b);
    const auto in = [=] { return MatrixView<const float>(o->x.data(), m, columns); };
    const auto out = [=] { return MatrixView<float>(o->y.data(), m, columns); };
    bench::row(
        detail::concat("monarch_product/f32/", shape, 'x', columns), "GFLOPs", flops(product, columns),
        [] { return bench::fma_roof<float>(); }, [=] { product.apply(o->ctx, Op::none, 1.0f, in(), 0.0f, out()); },
        {{"apart", [=] {
            const MatrixView<float> middle(o->middle.data(), k, columns);
            o->b.apply(o->ctx, Op::none, 1.0f, in(), 0.0f, middle);
            o->a.apply(o->ctx, Op::none, 1.0f, middle, 0.0f, out());
          }}});
  };
  for (Index columns : {64, 512}) {
    row("4096b64", 4096, 4096, 64, columns);
    row("256to16384b16", 256, 16384, 16, columns);
  }
}

/// Blocks of bf16, int8 and int4: the share of the roof of their own bytes, and the product with blocks of f32.
template <class A>
void coded_monarch_rows(const std::string& type, A (*convert)(const Monarch<float>&)) {
  for (const bool transposed : {false, true})
    for (Index columns : {1, 64}) {
      auto plain = std::make_shared<std::unique_ptr<Monarch<float>>>();
      auto x = std::make_shared<Buffer<float>>(), y = std::make_shared<Buffer<float>>();
      auto ctx = std::make_shared<Context>();
      product_row<A>(detail::concat("monarch/", type, "/4096b64x", columns, transposed ? "/transposed" : ""), columns,
                     [=] { return convert(random_monarch(4096, 64)); }, transposed, false,
                     {{"f32", [=] {
                         if (!*plain) {
                           *plain = std::make_unique<Monarch<float>>(random_monarch(4096, 64));
                           *x = draws(4096 * columns, 2);
                           *y = draws(4096 * columns, 3);
                         }
                         (*plain)->apply(*ctx, transposed ? Op::transpose : Op::none, 1.0f,
                                         MatrixView<const float>(x->data(), 4096, columns), 0.0f,
                                         MatrixView<float>(y->data(), 4096, columns));
                       }}});
    }
}
void coded_rows() {
  coded_monarch_rows<Monarch<bf16>>("bf16", [](const Monarch<float>& M) {
    Monarch<bf16> half(M.rows(), M.cols(), M.shape().row_blocks, M.shape().col_blocks);
    std::transform(M.parameters().begin(), M.parameters().end(), half.parameters().begin(),
                   [](float p) { return bf16(p); });
    return half;
  });
  coded_monarch_rows<QuantizedMonarch<Integers<8>>>(
      "int8", [](const Monarch<float>& M) { return quantize<Integers<8>>(default_context(), M); });
  coded_monarch_rows<QuantizedMonarch<Integers<4>>>(
      "int4", [](const Monarch<float>& M) { return quantize<Integers<4>>(default_context(), M); });
}

void low_rank_rows() {
  using A = LowRank<Dense<float>, Dense<float>>;
  const auto make = [](Index n, Index rank) {
    const auto u = draws(n * rank, 5), v = draws(n * rank, 6);
    return A(Dense<float>(MatrixView<const float>(u.data(), n, rank)),
             Dense<float>(MatrixView<const float>(v.data(), n, rank)));
  };
  for (Index columns : {1, 64}) {
    product_row<A>(detail::concat("low_rank/f32/4096x4096r64x", columns), columns, [=] { return make(4096, 64); });
    product_row<A>(detail::concat("low_rank/f32/4096x4096r512x", columns), columns, [=] { return make(4096, 512); });
  }
  for (Index rank : {512, 1024, 1536, 2048})
    product_row<A>(detail::concat("low_rank/crossover/4096x4096r", rank, "x1"), 1, [=] { return make(4096, rank); });
}

template <class A>
A fill(A matrix) {
  const auto values = draws(matrix.parameter_count(), 7);
  std::copy(values.begin(), values.end(), matrix.parameters().begin());
  return matrix;
}

/// Monarch matrices of higher order, down to a butterfly.
void chain_rows() {
  for (Index columns : {64, 1}) {
    product_row<MonarchChain<float>>(detail::concat("monarch_chain/f32/16x16x16x", columns), columns, [=] {
      return fill(MonarchChain<float>({16, 16, 16}));
    });
    product_row<Butterfly<float>>(detail::concat("butterfly/f32/4096x", columns), columns,
                                  [=] { return fill(Butterfly<float>(4096)); });
  }
}

/// Shifted sequences, and from which size they and the fast transforms win. Vectors of them are measured by the flops
/// of the dense product: what they read is next to nothing.
template <class A>
void counted_row(const std::string& name, Index columns, std::function<A()> make) {
  auto c = std::make_shared<Case<A>>();
  c->make = std::move(make);
  c->n = columns;
  const A sample = c->make();
  bench::row(name, "dense_GFLOPs", 2.0 * static_cast<double>(sample.rows() * sample.cols() * columns), {},
             [=] {
               c->prepare();
               c->a->apply(c->ctx, Op::none, 1.0f, c->in(), 0.0f, c->out());
             },
             {{"dense",
               [=] {
                 gemm(c->ctx, 1.0f, MatrixView<const float>(c->dense.data(), c->a->rows(), c->a->cols()), c->in(), 0.0f,
                      c->out());
               }},
              {"eigen", [=] {
                 peers::eigen_dense(c->dense.data(), c->x.data(), c->y.data(), c->a->rows(), columns, c->a->cols());
               }}});
}
void transform_rows() {
  const auto circulant = [](Index n) { return Circulant<float>(draws(n, 16)); };
  for (Index columns : {1, 64}) {
    counted_row<Circulant<float>>(detail::concat("circulant/f32/4096x", columns), columns,
                                  [=] { return circulant(4096); });
    counted_row<Toeplitz<float>>(detail::concat("toeplitz/f32/4096x4096x", columns), columns,
                                 [] { return Toeplitz<float>(4096, 4096, draws(8191, 17)); });
    for (Index n : {64, 256, 1024}) {
      counted_row<Circulant<float>>(detail::concat("circulant/crossover/", n, 'x', columns), columns,
                                    [=] { return circulant(n); });
      counted_row<Hadamard<float>>(detail::concat("fwht/crossover/", n, 'x', columns), columns,
                                   [=] { return Hadamard<float>(n); });
    }
    for (Index n : {16, 64, 256, 1024})
      counted_row<Butterfly<float>>(detail::concat("butterfly/crossover/", n, 'x', columns), columns,
                                    [=] { return fill(Butterfly<float>(n)); });
    for (Index b : {4, 8})
      counted_row<MonarchChain<float>>(detail::concat("monarch_chain/crossover/", b, 'x', b, 'x', b, 'x', columns),
                                       columns, [=] {
                                         return fill(MonarchChain<float>({b, b, b}));
                                       });
  }
}

/// Sparse Bayesian learning to a change of 1e-4 by SVDs, and by alternating minimisation: 8 of 343 unknowns, 125
/// measurements, 20 dB.
void kron_sbl_row() {
  std::vector<Eigen::MatrixXd> H;
  Eigen::VectorXd y = Eigen::VectorXd::Ones(1);
  for (std::uint64_t f = 0; f < 3; ++f) {
    Eigen::MatrixXd h(5, 7);
    const auto values = draws(35, 18 + f);
    for (Index i = 0; i < 35; ++i) h.data()[i] = static_cast<double>(values[i]);
    const Eigen::VectorXd part = h.col(1) - 0.5 * h.col(4);
    Eigen::VectorXd next(y.size() * 5);
    for (Index i = 0; i < y.size(); ++i) next.segment(5 * i, 5) = y[i] * part;
    y = next;
    H.push_back(h);
  }
  const double noise = y.squaredNorm() / static_cast<double>(y.size()) / 100;
  const auto values = draws(y.size(), 21);
  for (Index i = 0; i < y.size(); ++i) y[i] += std::sqrt(12 * noise) * static_cast<double>(values[i]);
  const auto solve = [=](KronSblMethod method) {
    KronSblOptions<double> options;
    options.method = method;
    benchmark::DoNotOptimize(kron_sbl<double>(H, y, noise, options).x.data());
  };
  bench::row("kron_sbl/f64/5x7x3/svd", "solutions_a_second", 1e9, {}, [=] { solve(KronSblMethod::svd); },
             {{"alternating", [=] { solve(KronSblMethod::alternating); }}});
}

/// A Kronecker product of three factors; what Eigen multiplies is its KroneckerProduct, materialised beforehand.
void kronecker_rows() {
  using D = Dense<float>;
  using A = Kronecker<D, D, D>;
  const auto make = [](Index n) {
    const auto factor = [=](std::uint64_t seed) {
      const auto values = draws(n * n, seed);
      return D(MatrixView<const float>(values.data(), n, n));
    };
    return A(factor(8), factor(9), factor(10));
  };
  for (Index columns : {256, 64, 1})
    product_row<A>(detail::concat("kronecker/f32/16x16x16x", columns), columns, [=] { return make(16); });
  product_row<A>(
      "kronecker/f32/16x16x16x64/columns", 64, [=] { return make(16); }, false, true);
  for (Index n : {4, 8})
    for (Index columns : {1, 64})
      product_row<A>(detail::concat("kronecker/crossover/", n, 'x', n, 'x', n, 'x', columns), columns,
                     [=] { return make(n); });
}

/// Walsh-Hadamard transforms against copying the same bytes: a roof of 0.77 is 1.3 copies.
void fwht_row(Index n, Index batch) {
  struct Operands {
    Buffer<float> x, y, z;
    Context ctx;
  };
  auto o = std::make_shared<Operands>();
  const auto make = [=] {
    if (o->x.size() > 0) return;
    o->x = draws(n * batch, 11);
    o->y = Buffer<float>(n * batch);
    o->z = Buffer<float>(n * batch);
  };
  const double moved = 8.0 * static_cast<double>(n * batch);
  bench::row(
      detail::concat("fwht/f32/", n, 'x', batch), "GBs", moved,
      [=] {
        make();
        double best = 0;
        for (int i = 0; i < 3; ++i) {
          const double start = bench::seconds();
          std::copy(o->x.begin(), o->x.end(), o->z.begin());
          best = std::max(best, moved / (bench::seconds() - start) * 1e-9);
        }
        return best;
      },
      [=] {
        make();
        fwht(o->ctx, MatrixView<const float>(o->x.data(), batch, n), 1.0f, MatrixView<float>(o->y.data(), batch, n));
      });
}

/// As many n x n products as 256 KiB of each factor hold.
void batched_row(Index n) {
  struct Operands {
    Buffer<float> a, b, c;
    Context ctx;
  };
  const Index count = (Index{1} << 16) / (n * n);
  auto x = std::make_shared<Operands>();
  const auto make = [=] {
    if (x->a.size() == 0)
      x->a = draws(count * n * n, 1), x->b = draws(count * n * n, 2), x->c = draws(count * n * n, 3);
  };
  bench::row(
      detail::concat("gemm_batched/f32/", n, "x", n, "x", n), "GFLOPs",
      2.0 * static_cast<double>(count * n) * static_cast<double>(n * n), [] { return bench::fma_roof<float>(); },
      [=] {
        make();
        gemm_batched(x->ctx, 1.0f, View<const float, 3>(x->a.data(), {count, n, n}),
                     View<const float, 3>(x->b.data(), {count, n, n}), 0.0f,
                     View<float, 3>(x->c.data(), {count, n, n}));
      },
      {{"eigen", [=] { peers::eigen_batched(x->a.data(), x->b.data(), x->c.data(), count, n); }}});
}

}  // namespace

int main(int argc, char** argv) {
  monarch_rows();
  product_rows();
  coded_rows();
  low_rank_rows();
  chain_rows();
  transform_rows();
  kron_sbl_row();
  kronecker_rows();
  fwht_row(4096, 256);
  fwht_row(256, 4096);
  fwht_row(16384, 64);
  for (Index n : {16, 32, 64}) batched_row(n);
  std::printf("isa %s\n", isa_text(active_isa()).c_str());
  return bench::run_rows(argc, argv);
}
