#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <tessera/io/safetensors.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/quant/dynamic_fixed_point_conv.hpp>
#include <vector>

#include "io/io_test.hpp"

#include "quant/layers.hpp"

namespace tessera {
namespace TESSERA_TEST_FILE {

using test::normal_matrix;
using test::RowMatrixf;

TEST(DynamicFixedPoint, RoundsToHalfAStepOfTheLeastExponent) {
  Context ctx;
  for (const int bits : {2, 8, 15, 16})
    for (const float size : {1.0f, 3e-42f, 1e-38f, 1e30f, 3e38f}) {
      RowMatrixf X = normal_matrix(5, 70, 1);
      X *= size / X.cwiseAbs().maxCoeff();
      const FixedPointMatrix F(ctx, view(X), bits);
      const auto V = F.view();
      const int top = (1 << (bits - 1)) - 1;
      EXPECT_LE(V.largest, top);
      EXPECT_GE(2 * V.largest, top);  // a smaller exponent would not take it
      const double half = std::ldexp(0.5, F.exponent());
      for (Index i = 0; i < X.rows(); ++i)
        for (Index j = 0; j < X.cols(); ++j)
          ASSERT_LE(std::abs(static_cast<double>(X(i, j)) - std::ldexp(1.0 * V.mantissas(i, j), F.exponent())), half)
              << bits << " bits, size " << size;
      const RowMatrixf back = F.to_dense();
      EXPECT_EQ(back(2, 3), V.value(2, 3));
      const Eigen::MatrixXf columns = X;  // any layout gives the same numbers
      const FixedPointMatrix G(ctx, view(columns), bits);
      EXPECT_EQ(G.exponent(), F.exponent());
      EXPECT_EQ(RowMatrixf(G.to_dense()), back);
    }
  RowMatrixf X = RowMatrixf::Zero(3, 4);
  EXPECT_EQ(RowMatrixf(FixedPointMatrix(ctx, view(X)).to_dense()), X);
  X(1, 2) = std::nanf("");
  EXPECT_TRUE(std::isnan(FixedPointMatrix(ctx, view(X)).to_dense()(0, 0)));
  EXPECT_THROW(FixedPointMatrix(ctx, view(X), 17), unsupported_error);
  EXPECT_THROW(FixedPointMatrix(ctx, view(X)).assign(ctx, view(X).transposed()), shape_error);
}

double relative_error(int bits, Index n, float scale) {
  Context ctx, threads = Context::with_threads(2);
  const RowMatrixf A = scale * normal_matrix(n, 3 * n, 2), B = normal_matrix(3 * n, n, 3) / scale;
  const FixedPointMatrix W(ctx, view(A), bits);
  RowMatrixf Y = RowMatrixf::Constant(n, n, std::nanf("")), T = Y;
  W.apply(ctx, Op::none, 1, view(B), 0, view(Y));
  W.apply(threads, Op::none, 1, view(B), 0, view(T));
  EXPECT_EQ(Y, T);
  const Eigen::MatrixXd exact = A.cast<double>() * B.cast<double>();
  RowMatrixf Z = normal_matrix(3 * n, 5, 4);
  const RowMatrixf X = normal_matrix(n, 5, 5);
  const Eigen::MatrixXd turned = -2.0 * A.cast<double>().transpose() * X.cast<double>() + Z.cast<double>();
  W.apply(ctx, Op::transpose, -2, view(X), 1, view(Z));
  EXPECT_LE((Z.cast<double>() - turned).norm(), std::ldexp(turned.norm(), 5 - bits));
  return (Y.cast<double>() - exact).norm() / exact.norm();
}

TEST(DynamicFixedPoint, ProductsOfGaussiansAreRightToThirteenBits) {
  EXPECT_LE(relative_error(16, 150, 1), 0x1p-13);
  EXPECT_LE(relative_error(15, 150, 1), 0x1p-12);
  EXPECT_LE(relative_error(16, 20, 1e25f), 0x1p-12);
}

TEST(DynamicFixedPoint, ScalesBeyondTheRangeOfFloat) {
  Context ctx;
  RowMatrixf A = normal_matrix(4, 6, 1), B = normal_matrix(6, 3, 2);
  for (const auto& [a, b] : {std::pair{1e-25f, 1e-13f}, {1e-30f, 1e-30f}, {1e30f, 1e7f}, {3e38f, 1e-38f}}) {
    const RowMatrixf P = A * (a / A.cwiseAbs().maxCoeff()), Q = B * (b / B.cwiseAbs().maxCoeff());
    RowMatrixf Y(4, 3);
    FixedPointMatrix(ctx, view(P), 16).apply(ctx, Op::none, 1, view(Q), 0, view(Y));
    const Eigen::MatrixXd exact = P.cast<double>() * Q.cast<double>();
    EXPECT_LE((Y.cast<double>() - exact).norm(), 2e-4 * exact.norm() + 12 * 0x1p-149) << a << ' ' << b;
  }
}

/// A product as the training below does it: in f32, or operands in fixed point.
struct Multiply {
  int bits = 0;
  Context ctx = {};
  void operator()(const RowMatrixf& A, bool ta, const RowMatrixf& B, bool tb, RowMatrixf& C) {
    C.resize(ta ? A.cols() : A.rows(), tb ? B.rows() : B.cols());
    if (bits == 0) {
      const auto a = view(A), b = view(B);
      return gemm<float>(ctx, 1, ta ? a.transposed() : a, tb ? b.transposed() : b, 0, view(C));
    }
    const FixedPointMatrix a(ctx, view(A), bits), b(ctx, view(B), bits);
    fixed_point_gemm(ctx, 1, ta ? a.view().transposed() : a.view(), tb ? b.view().transposed() : b.view(), 0, view(C));
  }
};

/// A convolution of 3x3 to 8 channels (as a product of patches), ReLU, and two classes from all positions; bars across
/// or down in noise. Every product, forward and backward, is `multiply`'s; the losses of 60 steps of gradient descent.
std::vector<double> train(Multiply multiply) {
  constexpr Index side = 8, inner = side - 2, places = inner * inner, channels = 8, batch = 32;
  RowMatrixf K = 0.3f * normal_matrix(9, channels, 1), D = 0.05f * normal_matrix(places * channels, 2, 2);
  std::vector<double> losses;
  RowMatrixf H, logits, dD, dH, dK;
  for (Index step = 0; step < 60; ++step) {
    const RowMatrixf noise = normal_matrix(batch, side * side, 100 + static_cast<std::uint64_t>(step % 4));
    RowMatrixf patches(batch * places, 9);
    for (Index n = 0; n < batch; ++n)
      for (Index p = 0; p < places; ++p)
        for (Index q = 0; q < 9; ++q) {
          const Index y = p / inner + q / 3, x = p % inner + q % 3;
          const bool on = (n % 2 == 0 ? x : y) == 2 + n / 2 % 4;
          patches(n * places + p, q) = 0.5f * noise(n, y * side + x) + (on ? 1.0f : 0.0f);
        }
    multiply(patches, false, K, false, H);
    const RowMatrixf active = H.cwiseMax(0.0f);
    const Eigen::Map<const RowMatrixf> flat(active.data(), batch, places * channels);
    multiply(flat, false, D, false, logits);
    RowMatrixf dlogits(batch, 2);
    double loss = 0;
    for (Index n = 0; n < batch; ++n) {
      const float gap = logits(n, 1 - n % 2) - logits(n, n % 2), wrong = 1 / (1 + std::exp(-gap));
      loss += static_cast<double>(std::log1p(std::exp(gap))) / batch;
      dlogits(n, n % 2) = -wrong / batch;
      dlogits(n, 1 - n % 2) = wrong / batch;
    }
    losses.push_back(loss);
    multiply(flat, true, dlogits, false, dD);
    multiply(dlogits, false, D, true, dH);
    const Eigen::Map<const RowMatrixf> spread(dH.data(), batch * places, channels);
    const RowMatrixf through = (H.array() > 0).select(spread, 0.0f);
    multiply(patches, true, through, false, dK);
    K -= 0.1f * dK;
    D -= 0.1f * dD;
  }
  return losses;
}

TEST(DynamicFixedPoint, AConvolutionalNetTrainsAsInFloat) {
  const auto exact = train({}), fixed = train({.bits = 15}), coarse = train({.bits = 4});
  EXPECT_LT(exact.back(), 0.3 * exact.front());
  double worst = 0;
  for (std::size_t s = 0; s < exact.size(); ++s) {
    EXPECT_NEAR(fixed[s], exact[s], 0.01 * exact[s]) << "step " << s;
    worst = std::max(worst, std::abs(coarse[s] - exact[s]) / exact[s]);
  }
  EXPECT_GT(worst, 0.01);  // the comparison can tell
}

/// f(output row, image row, filter column / channels) for every product of a convolution but its channels.
template <class F>
void for_each_tap(const Conv2dShape& s, F&& f) {
  for (Index n = 0; n < s.batch; ++n)
    for (Index y = 0; y < s.out_height(); ++y)
      for (Index x = 0; x < s.out_width(); ++x)
        for (Index ky = 0; ky < s.kernel_height; ++ky)
          for (Index kx = 0; kx < s.kernel_width; ++kx) {
            const Index iy = y * s.stride - s.padding + ky, ix = x * s.stride - s.padding + kx;
            if (iy < 0 || iy >= s.height || ix < 0 || ix >= s.width) continue;
            f((n * s.out_height() + y) * s.out_width() + x, (n * s.height + iy) * s.width + ix,
              ky * s.kernel_width + kx);
          }
}

const std::vector<Conv2dShape> conv_shapes{
    {2, 7, 9, 3, 5, 3, 3, 1, 1},    {3, 8, 5, 4, 6, 3, 2, 2, 1},   {1, 6, 6, 1, 8, 1, 1, 1, 0},
    {2, 4, 4, 7, 3, 4, 4, 1, 0},    {1, 11, 13, 2, 3, 5, 3, 3, 4}, {2, 5, 5, 3, 2, 2, 2, 2, 0},
    {8, 40, 40, 16, 4, 3, 3, 1, 1},  // more than a tile
    {0, 4, 4, 2, 2, 3, 3, 1, 1},    {2, 3, 3, 0, 2, 3, 3, 1, 1},   {2, 3, 3, 2, 0, 3, 3, 1, 1}};

/// Images, filters and output gradients of a convolution, and what it makes of them.
struct Convolution {
  Conv2dShape shape;
  RowMatrixf X, W, dY, Y, dX, dW;

  Convolution(const Conv2dShape& s, bool integers)
      : shape(s),
        X(normal_matrix(s.pixels(), s.channels, 1)),
        W(normal_matrix(s.outputs, s.patch(), 2)),
        dY(normal_matrix(s.positions(), s.outputs, 3)),
        Y(RowMatrixf::Constant(s.positions(), s.outputs, std::nanf(""))),
        dX(RowMatrixf::Constant(s.pixels(), s.channels, std::nanf(""))),
        dW(RowMatrixf::Constant(s.outputs, s.patch(), std::nanf(""))) {
    if (integers)
      for (RowMatrixf* M : {&X, &W, &dY}) *M = (3 * *M).array().round();
  }
  void run(Context& ctx, int bits, float beta = 0) {
    const FixedPointMatrix x(ctx, view(X), bits), w(ctx, view(W), bits), dy(ctx, view(dY), bits);
    fixed_point_conv2d(ctx, shape, x.view(), w.view(), beta, view(Y));
    fixed_point_conv2d_grad_input(ctx, shape, dy.view(), w.view(), beta, view(dX));
    fixed_point_conv2d_grad_weights(ctx, shape, x.view(), dy.view(), beta, view(dW));
  }
};

struct Errors {
  double output, input, weights;
};
/// Of the results, relative to those of the obvious loop.
Errors errors_of(const Convolution& c) {
  const Eigen::MatrixXd X = c.X.cast<double>(), W = c.W.cast<double>(), dY = c.dY.cast<double>();
  Eigen::MatrixXd Y = Eigen::MatrixXd::Zero(c.Y.rows(), c.Y.cols()), dX = Eigen::MatrixXd::Zero(X.rows(), X.cols()),
                  dW = Eigen::MatrixXd::Zero(W.rows(), W.cols());
  const Index channels = c.shape.channels;
  for_each_tap(c.shape, [&](Index out, Index in, Index tap) {
    for (Index o = 0; o < c.shape.outputs; ++o)
      for (Index i = 0; i < channels; ++i) {
        Y(out, o) += X(in, i) * W(o, tap * channels + i);
        dX(in, i) += dY(out, o) * W(o, tap * channels + i);
        dW(o, tap * channels + i) += dY(out, o) * X(in, i);
      }
  });
  const auto error = [](const RowMatrixf& got, const Eigen::MatrixXd& exact) {
    return (got.cast<double>() - exact).norm() / std::max(exact.norm(), 1e-300);
  };
  return {error(c.Y, Y), error(c.dX, dX), error(c.dW, dW)};
}

TEST(FixedPointConv2d, OfSmallIntegersIsExact) {
  Context ctx, threads = Context::with_threads(2);
  for (const auto& shape : conv_shapes) {
    Convolution c(shape, true);
    c.run(ctx, 15);
    const Convolution once = c;
    const Errors errors = errors_of(c);
    EXPECT_EQ(errors.output, 0) << shape.height << 'x' << shape.width << ", stride " << shape.stride;
    EXPECT_EQ(errors.input, 0) << shape.height << 'x' << shape.width << ", stride " << shape.stride;
    EXPECT_EQ(errors.weights, 0) << shape.height << 'x' << shape.width << ", stride " << shape.stride;
    c.run(threads, 15, 1);  // adds the same
    EXPECT_EQ(c.Y, RowMatrixf(2 * once.Y));
    EXPECT_EQ(c.dX, RowMatrixf(2 * once.dX));
    EXPECT_EQ(c.dW, RowMatrixf(2 * once.dW));
  }
}

TEST(FixedPointConv2d, IsRightToTwelveBitsForAnyThreadsAndStrides) {
  Context ctx, threads = Context::with_threads(2);
  for (const auto& shape : conv_shapes) {
    Convolution c(shape, false), d = c;
    c.run(ctx, 16);
    d.run(threads, 16);
    EXPECT_EQ(c.Y, d.Y);
    EXPECT_EQ(c.dX, d.dX);
    EXPECT_EQ(c.dW, d.dW);
    const Errors errors = errors_of(c);
    for (const double e : {errors.output, errors.input, errors.weights}) EXPECT_LE(e, 0x1p-12);
    const Eigen::MatrixXf columns = d.X;
    Buffer<std::int16_t> memory(columns.size());
    const auto turned = to_fixed_point(
        ctx, view(columns), 16, MatrixView<std::int16_t>(memory.data(), columns.cols(), columns.rows()).transposed());
    fixed_point_conv2d(ctx, shape, turned, FixedPointMatrix(ctx, view(d.W), 16).view(), 0, view(d.Y));
    EXPECT_EQ(c.Y, d.Y);
  }
}

TEST(FixedPointConv2d, LargestMantissasDoNotOverflow) {
  Context ctx;
  for (const int bits : {16, 15}) {  // chains of 2 and 8; twice as long ones overflow (FixedGemm.ChainsThatFit…)
    Convolution c({2, 8, 8, 40, 5, 3, 3, 1, 0}, false);
    const float most = bits == 16 ? 32767.0f / 16384.0f : 16383.0f / 8192.0f;
    for (RowMatrixf* M : {&c.X, &c.W, &c.dY}) M->setConstant(most);
    EXPECT_EQ(FixedPointMatrix(ctx, view(c.X), bits).view().largest, (1 << (bits - 1)) - 1);
    c.run(ctx, bits);
    const Errors errors = errors_of(c);
    for (const double e : {errors.output, errors.input, errors.weights}) EXPECT_LE(e, 1e-6);
  }
}

TEST(FixedPointConv2d, RefusesWhatDoesNotFit) {
  Context ctx;
  const Convolution c({2, 5, 6, 3, 4, 3, 3, 1, 1}, true);
  const FixedPointMatrix x(ctx, view(c.X)), w(ctx, view(c.W)), dy(ctx, view(c.dY));
  RowMatrixf Y = c.Y;
  const auto refused = [&](auto change) {
    Conv2dShape s = c.shape;
    change(s);
    EXPECT_THROW(fixed_point_conv2d(ctx, s, x.view(), w.view(), 0, view(Y)), shape_error);
  };
  refused([](auto& s) { s.stride = 0; });
  refused([](auto& s) { s.padding = -1; });
  refused([](auto& s) { s.padding = 3; });
  refused([](auto& s) { s.kernel_height = 8; });
  refused([](auto& s) { s.kernel_width = 0; });
  refused([](auto& s) { s.batch = 3; });
  refused([](auto& s) { s.channels = -3; });
  refused([](auto& s) { s.height = Index{1} << 62; });
  refused([](auto& s) { s.batch = s.height = s.width = (Index{1} << 31) - 1; });
  refused([](auto& s) { s.stride = 2; });
  EXPECT_THROW(fixed_point_conv2d_grad_weights(ctx, c.shape, x.view(), dy.view(), 0, view(Y)), shape_error);
  RowMatrixf X = c.X;
  X(3, 1) = std::nanf("");
  fixed_point_conv2d(ctx, c.shape, FixedPointMatrix(ctx, view(X)).view(), w.view(), 0, view(Y));
  EXPECT_TRUE(std::isnan(Y(0, 0)));
}

/// Digits as (images·14·14, 1), black and white, and classes.
struct Digits {
  RowMatrixf X;
  std::vector<Index> label;
  Digits(const Safetensors& file, const char* images, const char* classes) {
    const auto x = file[images].view<std::uint8_t, 2>(), y = file[classes].view<std::uint8_t, 2>();
    X.resize(x.rows() * x.cols(), 1);
    for (Index i = 0; i < X.rows(); ++i) X(i, 0) = static_cast<float>(x(i / x.cols(), i % x.cols())) - 0.13f;
    for (Index i = 0; i < y.rows(); ++i)
      for (Index k = 0; k < y.cols(); ++k)
        if (y(i, k) != 0) label.push_back(k);
  }
};

/// Convolutions 3x3 with stride 2 to 8 and 16 channels, ReLUs, and one of the whole image to 10 classes. Every product,
/// forward and backward, is of `bits` (0: f32, patches by gemm); weights, ReLU, loss and steps are f32, as the paper's.
struct DigitNet {
  int bits;
  Context ctx = {};
  std::vector<RowMatrixf> W, momentum = {};

  explicit DigitNet(int bits_)
      : bits(bits_),
        W{0.4f * normal_matrix(8, 9, 1), 0.2f * normal_matrix(16, 72, 2), 0.06f * normal_matrix(10, 256, 3)} {
    for (const auto& w : W) momentum.push_back(RowMatrixf::Zero(w.rows(), w.cols()));
  }
  static Conv2dShape shape(std::size_t layer, Index batch) {
    const Conv2dShape shapes[] = {
        {batch, 14, 14, 1, 8, 3, 3, 2, 1}, {batch, 7, 7, 8, 16, 3, 3, 2, 1}, {batch, 4, 4, 16, 10, 4, 4, 1, 0}};
    return shapes[layer];
  }
  static RowMatrixf patches(const Conv2dShape& s, const RowMatrixf& X) {
    RowMatrixf P = RowMatrixf::Zero(s.positions(), s.patch());
    for_each_tap(s,
                 [&](Index out, Index in, Index tap) { P.row(out).segment(tap * s.channels, s.channels) = X.row(in); });
    return P;
  }
  RowMatrixf forward(const Conv2dShape& s, const RowMatrixf& X, const RowMatrixf& w) {
    RowMatrixf Y(s.positions(), s.outputs);
    if (bits == 0)
      gemm<float>(ctx, 1, view(std::as_const(P = patches(s, X))), view(w).transposed(), 0, view(Y));
    else
      fixed_point_conv2d(ctx, s, FixedPointMatrix(ctx, view(X), bits).view(),
                         FixedPointMatrix(ctx, view(w), bits).view(), 0, view(Y));
    return Y;
  }
  /// dw, and dX if it is asked for.
  void backward(const Conv2dShape& s, const RowMatrixf& X, const RowMatrixf& w, const RowMatrixf& dY, RowMatrixf& dw,
                RowMatrixf* dX) {
    dw.resize(w.rows(), w.cols());
    if (dX != nullptr) *dX = RowMatrixf::Zero(X.rows(), X.cols());
    if (bits == 0) {
      P = patches(s, X);
      gemm<float>(ctx, 1, view(dY).transposed(), view(std::as_const(P)), 0, view(dw));
      if (dX == nullptr) return;
      gemm<float>(ctx, 1, view(dY), view(w), 0, view(P));
      for_each_tap(
          s, [&](Index out, Index in, Index tap) { dX->row(in) += P.row(out).segment(tap * s.channels, s.channels); });
      return;
    }
    const FixedPointMatrix x(ctx, view(X), bits), dy(ctx, view(dY), bits);
    fixed_point_conv2d_grad_weights(ctx, s, x.view(), dy.view(), 0, view(dw));
    if (dX != nullptr)
      fixed_point_conv2d_grad_input(ctx, s, dy.view(), FixedPointMatrix(ctx, view(w), bits).view(), 0, view(*dX));
  }
  /// Logits (batch, 10) and the input of each layer.
  RowMatrixf logits(RowMatrixf X, Index batch, std::vector<RowMatrixf>& inputs) {
    inputs.clear();
    for (std::size_t l = 0; l < 3; ++l) {
      inputs.push_back(l == 0 ? X : RowMatrixf(X.cwiseMax(0.0f)));
      X = forward(shape(l, batch), inputs.back(), W[l]);
    }
    return X;
  }
  double step(const RowMatrixf& X, const Index* label, Index batch, float rate) {
    std::vector<RowMatrixf> inputs;
    RowMatrixf dY = logits(X, batch, inputs), dX, dw;
    double loss = 0;
    for (Index n = 0; n < batch; ++n) {
      const float most = dY.row(n).maxCoeff(), right = dY(n, label[n]);
      dY.row(n) = (dY.row(n).array() - most).exp();
      const float sum = dY.row(n).sum();
      loss += static_cast<double>(most - right + std::log(sum)) / static_cast<double>(batch);
      dY.row(n) /= sum * static_cast<float>(batch);
      dY(n, label[n]) -= 1 / static_cast<float>(batch);
    }
    for (std::size_t l = 3; l-- > 0;) {
      backward(shape(l, batch), inputs[l], W[l], dY, dw, l > 0 ? &dX : nullptr);
      momentum[l] = 0.9f * momentum[l] + dw;
      if (l > 0) dY = (inputs[l].array() > 0).select(dX, 0.0f);
      W[l] -= rate * momentum[l];
    }
    return loss;
  }
  double accuracy(const Digits& test) {
    std::vector<RowMatrixf> inputs;
    const auto count = static_cast<Index>(test.label.size());
    const RowMatrixf Y = logits(test.X, count, inputs);
    double right = 0;
    for (Index n = 0; n < count; ++n) {
      Index best = 0;
      Y.row(n).maxCoeff(&best);
      right += best == test.label[static_cast<std::size_t>(n)];
    }
    return right / static_cast<double>(count);
  }

 private:
  RowMatrixf P;
};

TEST(FixedPointConv2d, DigitsAreLearntAsInFloatSlow) {
  TESSERA_DATA_OR_SKIP(path, "mnist14x14.safetensors");
  const Safetensors file = read_safetensors(path);
  const Digits train(file, "Xtrain", "Ytrain"), test(file, "Xtest", "Ytest");
  const Index batch = 50, count = static_cast<Index>(train.label.size());
  struct Run {
    std::vector<double> losses;  // means of epochs
    double accuracy;
  };
  const auto run = [&](int bits) {
    DigitNet net(bits);
    Run result{{}, 0};
    for (int epoch = 0; epoch < 4; ++epoch) {
      result.losses.push_back(0);
      for (Index first = 0; first + batch <= count; first += batch)
        result.losses.back() += net.step(train.X.middleRows(first * 196, batch * 196), train.label.data() + first,
                                         batch, epoch == 3 ? 0.02f : 0.05f) *
                                static_cast<double>(batch) / static_cast<double>(count);
    }
    result.accuracy = net.accuracy(test);
    std::printf("%s: losses %.4f %.4f %.4f %.4f, accuracy %.3f\n", bits == 0 ? "f32" : std::to_string(bits).c_str(),
                result.losses[0], result.losses[1], result.losses[2], result.losses[3], result.accuracy);
    return result;
  };
  const Run exact = run(0), sixteen = run(16), fifteen = run(15);
  EXPECT_GT(exact.accuracy, 0.88);
  for (const Run* fixed : {&sixteen, &fifteen}) {
    for (std::size_t e = 0; e < 4; ++e) EXPECT_NEAR(fixed->losses[e], exact.losses[e], 0.02 * exact.losses[e]);
    EXPECT_NEAR(fixed->accuracy, exact.accuracy, 0.01);  // 10 of 1000 digits
  }
}

}  // namespace
}  // namespace tessera
