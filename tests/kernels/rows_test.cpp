// Every row kernel of this processor against long double loops: tails, strides, misalignment, in place, empty shapes,
// infinities and NaN, and the same bits for any number of threads.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <support/oracle.hpp>
#include <tessera/kernels/rows/rows.hpp>

namespace tessera {
namespace TESSERA_TEST_FILE {

using test::random_buffer;
using Wide = long double;

template <class T>
struct Row {  // what an operation should make of one row
  std::vector<Wide> y;
  Wide first = 0, second = 0;  // the numbers it reports: inv_rms; mean, inv_std; log-sum-exp; norm
};

template <class T>
struct Inputs {
  Buffer<T> weight, bias;
  T eps = T(1e-5);
};

/// One operation as the tests see it: the call, the row by its definition, and the relative error a row may have.
template <class T>
struct Operation {
  std::string name;
  std::function<void(Context&, MatrixView<const T>, MatrixView<T>, VectorView<T>, VectorView<T>, const Inputs<T>&)> run;
  std::function<Row<T>(const std::vector<Wide>&, const Inputs<T>&)> exact;
};

Wide sum_squares(const std::vector<Wide>& x, Wide mean) {
  Wide sum = 0;
  for (const Wide v : x) sum += (v - mean) * (v - mean);
  return sum;
}

template <class T>
std::vector<Operation<T>> operations() {
  using X = MatrixView<const T>;
  using Y = MatrixView<T>;
  using Out = VectorView<T>;
  return {
      {"softmax", [](Context& c, X x, Y y, Out, Out, const Inputs<T>&) { softmax_rows(c, x, y); },
       [](const std::vector<Wide>& x, const Inputs<T>&) {
         Row<T> r;
         Wide most = -INFINITY, sum = 0;
         for (const Wide v : x) most = std::max(most, v);
         for (const Wide v : x) sum += std::exp(v - most);
         for (const Wide v : x) r.y.push_back(std::exp(v - most) / sum);
         return r;
       }},
      {"log_sum_exp", [](Context& c, X x, Y, Out a, Out, const Inputs<T>&) { log_sum_exp_rows(c, x, a); },
       [](const std::vector<Wide>& x, const Inputs<T>&) {
         Row<T> r;
         Wide most = -INFINITY, sum = 0;
         for (const Wide v : x) most = std::max(most, v);
         for (const Wide v : x) sum += std::exp(v - most);
         r.first = most + std::log(sum);
         return r;
       }},
      {"row_norms", [](Context& c, X x, Y, Out a, Out, const Inputs<T>&) { row_norms(c, x, a); },
       [](const std::vector<Wide>& x, const Inputs<T>&) {
         Row<T> r;
         r.first = std::sqrt(sum_squares(x, 0));
         return r;
       }},
      {"rmsnorm",
       [](Context& c, X x, Y y, Out a, Out, const Inputs<T>& in) {
         rmsnorm_rows(c, x, VectorView<const T>(in.weight.data(), in.weight.size()), in.eps, y, a);
       },
       [](const std::vector<Wide>& x, const Inputs<T>& in) {
         Row<T> r;
         r.first = 1 / std::sqrt(sum_squares(x, 0) / static_cast<Wide>(x.size()) + static_cast<Wide>(in.eps));
         for (std::size_t j = 0; j < x.size(); ++j)
           r.y.push_back(x[j] * r.first * (in.weight.data() ? static_cast<Wide>(in.weight[Index(j)]) : 1));
         return r;
       }},
      {"layernorm",
       [](Context& c, X x, Y y, Out a, Out b, const Inputs<T>& in) {
         layernorm_rows(c, x, VectorView<const T>(in.weight.data(), in.weight.size()),
                        VectorView<const T>(in.bias.data(), in.bias.size()), in.eps, y, a, b);
       },
       [](const std::vector<Wide>& x, const Inputs<T>& in) {
         Row<T> r;
         for (const Wide v : x) r.first += v / static_cast<Wide>(x.size());
         r.second = 1 / std::sqrt(sum_squares(x, r.first) / static_cast<Wide>(x.size()) + static_cast<Wide>(in.eps));
         for (std::size_t j = 0; j < x.size(); ++j)
           r.y.push_back((x[j] - r.first) * r.second * (in.weight.data() ? static_cast<Wide>(in.weight[Index(j)]) : 1) +
                         (in.bias.data() ? static_cast<Wide>(in.bias[Index(j)]) : 0));
         return r;
       }},
  };
}

struct Lane {
  const char* name;
  Isa isa;
};
constexpr std::array<Lane, 4> lanes{
    {{"avx512", Isa::avx512}, {"avx2", Isa::avx2}, {"xsimd", Isa::portable}, {"ref", Isa::portable}}};

template <class T>
class Rows : public ::testing::Test {
 protected:
  // A layernorm's mean is off by its own rounding, which inv_std multiplies: hence first * second below.
  /// Within the error of summing d terms, of the exponent's rounding (|x - max| <= 20 here) and a few operations.
  static double tolerance(Index d, double size) {
    return test::gamma<T>(static_cast<double>(d) + 60) * size + 1e-37 * (sizeof(T) == 4 ? 1 : 0);
  }

  void check(const Operation<T>& op, Context& ctx, MatrixView<const T> X, MatrixView<T> Y, const Inputs<T>& in,
             const std::string& where) {
    std::vector<std::vector<Wide>> rows;  // before Y, which may be X, is written
    for (Index i = 0; i < X.rows(); ++i) {
      rows.emplace_back();
      for (Index j = 0; j < X.cols(); ++j) rows.back().push_back(static_cast<Wide>(X(i, j)));
    }
    Buffer<T> a(2 * X.rows()), b(X.rows());
    const VectorView<T> first(a.data(), {X.rows()}, {2}), second(b.data(), X.rows());
    op.run(ctx, X, Y, first, second, in);
    for (Index i = 0; i < X.rows(); ++i) {
      const Row<T> r = op.exact(rows[static_cast<std::size_t>(i)], in);
      const auto close = [&](T got, Wide want, Wide size) {
        return std::abs(static_cast<double>(static_cast<Wide>(got) - want)) <=
               tolerance(X.cols(), static_cast<double>(size));
      };
      ASSERT_TRUE(close(first[i], r.first, 1 + std::abs(r.first))) << where << " row " << i << " " << first[i];
      ASSERT_TRUE(close(second[i], r.second, 1 + std::abs(r.second))) << where << " row " << i << " " << second[i];
      for (std::size_t j = 0; j < r.y.size(); ++j)
        ASSERT_TRUE(close(Y(i, Index(j)), r.y[j],
                          (op.name == "softmax" ? 0 : 2) + 4 * std::abs(r.y[j]) + 4 * std::abs(r.first * r.second)))
            << where << " at " << i << ", " << j << ": " << Y(i, Index(j)) << " for " << double(r.y[j]);
    }
  }

  static Inputs<T> inputs(Index d, bool affine) {
    Inputs<T> in;
    if (affine) {
      in.weight = random_buffer<T>(d, 21);
      in.bias = random_buffer<T>(d, 22);
    }
    return in;
  }

  template <class F>
  static void for_each_kernel(const Operation<T>& op, F&& f) {
    for (const Lane& lane : lanes) {
      if (!active_isa().has(lane.isa)) continue;
      Context ctx;
      ctx.force(op.name + ":" + lane.name);
      f(ctx, op.name + ":" + lane.name);
    }
  }
};
using Reals = ::testing::Types<float, double>;
TYPED_TEST_SUITE(Rows, Reals);

TYPED_TEST(Rows, EveryLengthAndAlignment) {
  using T = TypeParam;
  const Buffer<T> x = random_buffer<T>(40000, 1);
  Buffer<T> y(40000);
  for (const auto& op : operations<T>())
    this->for_each_kernel(op, [&](Context& ctx, const std::string& name) {
      for (const Index d : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 192, 1000, 5001})
        for (const Index offset : {0, 1, 3}) {
          const Index pitch = d + offset;
          this->check(op, ctx, {x.data() + offset, {3, d}, {pitch, 1}}, {y.data() + 2 * offset, {3, d}, {pitch, 1}},
                      this->inputs(d, d % 2 != 0), name + " d=" + std::to_string(d));
          if (this->HasFatalFailure()) return;
        }
    });
}

TYPED_TEST(Rows, AnyStrides) {
  using T = TypeParam;
  const Index n = 5, d = 37;
  const Buffer<T> x = random_buffer<T>(2000, 2);
  for (const auto& op : operations<T>())
    this->for_each_kernel(op, [&](Context& ctx, const std::string& name) {
      const MatrixView<const T> inputs[] = {{x.data(), {n, d}, {d, 1}},     {x.data(), {n, d}, {1, n}},
                                            {x.data(), {n, d}, {3 * d, 3}}, {x.data() + 1999, {n, d}, {-d, -1}},
                                            {x.data(), {n, d}, {0, 1}},     {x.data(), {n, d}, {1, 0}}};
      for (const auto& X : inputs)
        for (const Index step : {1, 2, -1}) {
          Buffer<T> y(1000);
          for (T& v : y) v = T(-77);
          const MatrixView<T> Y(y.data() + 500, {n, d}, {step == 2 ? 1 : step * d, step == 2 ? n : step});
          this->check(op, ctx, X, Y, this->inputs(d, true), name);
          if (this->HasFatalFailure()) return;
          Index written = 0;
          for (const T v : y) written += v != T(-77) ? 1 : 0;
          EXPECT_EQ(written, op.name == "log_sum_exp" || op.name == "row_norms" ? 0 : n * d) << name;
        }
    });
}

TYPED_TEST(Rows, InPlace) {
  using T = TypeParam;
  for (const auto& op : operations<T>())
    this->for_each_kernel(op, [&](Context& ctx, const std::string& name) {
      for (const bool transposed : {false, true}) {
        Buffer<T> x = random_buffer<T>(7 * 83, 3);
        MatrixView<T> X(x.data(), {7, 83}, {transposed ? 1 : 83, transposed ? 7 : 1});
        this->check(op, ctx, X, X, this->inputs(83, true), name);
        if (this->HasFatalFailure()) return;
      }
    });
}

TYPED_TEST(Rows, SlowLargeResultsGoPastTheCaches) {
  using T = TypeParam;
  const Index n = 300, d = 33001;  // more than 32 MiB, rows at every alignment
  const Buffer<T> x = random_buffer<T>(n * d, 4);
  Buffer<T> y(n * d + 8), z(d);
  for (const auto& op : operations<T>()) {
    if (op.name == "log_sum_exp" || op.name == "row_norms") continue;
    this->for_each_kernel(op, [&](Context& ctx, const std::string& name) {
      const auto in = this->inputs(d, true);
      Buffer<T> a(n), b(n);
      op.run(ctx, {x.data(), n, d}, {y.data() + 1, n, d}, {a.data(), n}, {b.data(), n}, in);
      for (const Index i : {Index(0), Index(1), Index(5), n - 1}) {
        this->check(op, ctx, {x.data() + i * d, 1, d}, {z.data(), 1, d}, in, name);
        for (Index j = 0; j < d; ++j) {
          const double got = static_cast<double>(y[1 + i * d + j]), alone = static_cast<double>(z[j]);
          ASSERT_NEAR(got, alone, test::gamma<T>(8) * (std::abs(alone) + 8)) << name << " at " << i << ", " << j;
        }
        ASSERT_EQ(y[0], T(0));
        ASSERT_EQ(y[n * d + 1], T(0));
      }
    });
  }
}

TYPED_TEST(Rows, SameBitsForAnyThreads) {
  using T = TypeParam;
  const Index n = 700, d = 333;
  const Buffer<T> x = random_buffer<T>(n * d, 5);
  const auto in = this->inputs(d, true);
  for (const auto& op : operations<T>())
    for (const Lane& lane : lanes) {
      if (!active_isa().has(lane.isa)) continue;
      std::vector<Buffer<T>> results;
      for (const Index threads : {1, 2, 3}) {
        Context ctx = Context::with_threads(threads);
        ctx.force(op.name + ":" + lane.name);
        Buffer<T> all(n * d + 2 * n);
        op.run(ctx, {x.data(), {n, d}, {1, n}}, {all.data(), n, d}, {all.data() + n * d, n},
               {all.data() + n * d + n, n}, in);
        results.push_back(std::move(all));
      }
      for (const auto& other : results)
        for (Index i = 0; i < other.size(); ++i) ASSERT_EQ(other[i], results[0][i]) << op.name << ":" << lane.name;
    }
}

TYPED_TEST(Rows, InfinitiesAndNaN) {
  using T = TypeParam;
  const T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  const auto ops = operations<T>();
  for (const Index d : {1, 5, 40, 9000})
    for (const Lane& lane : lanes) {
      if (!active_isa().has(lane.isa)) continue;
      Context ctx;
      ctx.force(std::string("softmax:") + lane.name);
      ctx.force(std::string("log_sum_exp:") + lane.name);
      for (const Index at : {Index(0), d / 2, d - 1}) {
        Buffer<T> x(5 * d), y(5 * d), lse(5);
        const MatrixView<T> X(x.data(), 5, d), Y(y.data(), 5, d);
        for (Index j = 0; j < d; ++j) {
          X(0, j) = -inf;                   // nothing
          X(1, j) = j == at ? T(3) : -inf;  // one
          X(2, j) = j == at ? nan : -inf;   // NaN among nothing
          X(3, j) = j == at ? nan : T(1);   // NaN
          X(4, j) = j == at ? inf : T(1);   // infinite
        }
        softmax_rows(ctx, X, Y);
        log_sum_exp_rows(ctx, X, VectorView<T>(lse.data(), 5));
        for (Index j = 0; j < d; ++j) {
          ASSERT_EQ(Y(0, j), T(0)) << lane.name;
          ASSERT_EQ(Y(1, j), j == at ? T(1) : T(0)) << lane.name << " " << d;
          ASSERT_TRUE(std::isnan(Y(2, j))) << lane.name;
          ASSERT_TRUE(std::isnan(Y(3, j))) << lane.name;
        }
        ASSERT_TRUE(std::isnan(Y(4, at))) << lane.name;
        ASSERT_EQ(lse[0], -inf) << lane.name;
        ASSERT_NEAR(static_cast<double>(lse[1]), 3, 1e-6) << lane.name;
        ASSERT_TRUE(std::isnan(lse[2])) << lane.name;
        ASSERT_TRUE(std::isnan(lse[3])) << lane.name;
        ASSERT_EQ(lse[4], inf) << lane.name;
      }
    }
}

TYPED_TEST(Rows, HugeRowsDoNotOverflow) {
  using T = TypeParam;
  const T big = std::numeric_limits<T>::max() / 2;
  for (const Lane& lane : lanes) {
    if (!active_isa().has(lane.isa)) continue;
    Context ctx;
    ctx.force(std::string("softmax:") + lane.name);
    ctx.force(std::string("log_sum_exp:") + lane.name);
    Buffer<T> x(20), y(20), lse(1);
    for (Index j = 0; j < 20; ++j) x[j] = j % 2 == 0 ? big : -big;
    softmax_rows(ctx, MatrixView<T>(x.data(), 1, 20), MatrixView<T>(y.data(), 1, 20));
    log_sum_exp_rows(ctx, MatrixView<T>(x.data(), 1, 20), VectorView<T>(lse.data(), 1));
    for (Index j = 0; j < 20; ++j) EXPECT_NEAR(static_cast<double>(y[j]), j % 2 == 0 ? 0.1 : 0, 1e-7) << lane.name;
    EXPECT_EQ(lse[0], big) << lane.name;
  }
}

TYPED_TEST(Rows, EmptyShapes) {
  using T = TypeParam;
  Context ctx;
  Buffer<T> out(3);
  for (T& v : out) v = T(5);
  softmax_rows(ctx, MatrixView<T>(nullptr, 0, 7), MatrixView<T>(nullptr, 0, 7));
  softmax_rows(ctx, MatrixView<T>(nullptr, 3, 0), MatrixView<T>(nullptr, 3, 0));
  rmsnorm_rows(ctx, MatrixView<T>(nullptr, 3, 0), {}, T(0), MatrixView<T>(nullptr, 3, 0));
  layernorm_rows(ctx, MatrixView<T>(nullptr, 0, 3), {}, {}, T(0), MatrixView<T>(nullptr, 0, 3));
  log_sum_exp_rows(ctx, MatrixView<T>(nullptr, 3, 0), VectorView<T>(out.data(), 3));
  for (const T v : out) EXPECT_EQ(v, -std::numeric_limits<T>::infinity());
  row_norms(ctx, MatrixView<T>(nullptr, 3, 0), VectorView<T>(out.data(), 3));
  for (const T v : out) EXPECT_EQ(v, T(0));
}

TYPED_TEST(Rows, StridedWeights) {
  using T = TypeParam;
  Context ctx;
  const Index d = 29;
  const Buffer<T> x = random_buffer<T>(2 * d, 6), w = random_buffer<T>(2 * d, 7);
  Buffer<T> packed(d), y(2 * d), z(2 * d);
  for (Index j = 0; j < d; ++j) packed[j] = w[2 * j];
  const VectorView<const T> strided(w.data(), {d}, {2}), dense(packed.data(), d);
  layernorm_rows(ctx, MatrixView<const T>(x.data(), 2, d), strided, strided, T(0), MatrixView<T>(y.data(), 2, d));
  layernorm_rows(ctx, MatrixView<const T>(x.data(), 2, d), dense, dense, T(0), MatrixView<T>(z.data(), 2, d));
  for (Index i = 0; i < 2 * d; ++i) EXPECT_EQ(y[i], z[i]);
}

TEST(RowsErrors, NameBothShapes) {
  Context ctx;
  Buffer<float> data(100);
  const MatrixView<float> X(data.data(), 4, 5), Y(data.data(), 5, 4);
  const auto message = [](auto&& f) -> std::string {
    try {
      f();
    } catch (const shape_error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_EQ(message([&] { softmax_rows(ctx, X, Y); }),
            "tessera: softmax_rows: X is 4x5, the result is 5x4; expected the same shape");
  EXPECT_EQ(message([&] { row_norms(ctx, X, VectorView<float>(data.data(), 3)); }),
            "tessera: row_norms: the result has 3 elements; X has 4 rows");
  EXPECT_EQ(message([&] { rmsnorm_rows(ctx, X, VectorView<float>(data.data(), 4), 0, X); }),
            "tessera: rmsnorm_rows: weight has 4 elements; X has 5 columns");
}

}  // namespace
}  // namespace tessera
