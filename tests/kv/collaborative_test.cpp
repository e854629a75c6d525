#include <gtest/gtest.h>

#include <tessera/attention/attention.hpp>
#include <tessera/attention/masks.hpp>
#include <tessera/kv/collaborative.hpp>

#include "kv/support.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

constexpr Index channels = 6, vocabulary = 20;
const std::vector<Index> sides{1, 2, 3, 5, 8};

/// One layer of attention over random projections; the code whose row is nearest to what it returns.
class Model {
 public:
  Model(Index d, std::uint64_t seed, MatrixView<const float> codebook)
      : d_(d),
        codebook_(codebook),
        cache_(1, d),
        wq_(random_buffer<float>(channels * d, seed)),
        wk_(random_buffer<float>(channels * d, seed + 1)),
        wv_(random_buffer<float>(channels * d, seed + 2)),
        wo_(random_buffer<float>(d * channels, seed + 3)) {}

  void read(Context& ctx, Index scale, MatrixView<const float> input) {
    const auto k = project(input, wk_, d_, scale), v = project(input, wv_, d_, scale);
    const Index n = input.rows();
    cache_.append(ctx, View<const float, 3>(k.data(), {1, n, d_}), View<const float, 3>(v.data(), {1, n, d_}));
  }
  void read(Context& ctx, Index scale, MatrixView<const float> input, std::span<Index> codes) {
    read(ctx, scale, input);
    const Index n = input.rows();
    const auto q = project(input, wq_, d_, scale);
    std::vector<float> out(q.size());
    cache_.attend(ctx, View<const float, 3>(q.data(), {1, n, d_}), View<float, 3>(out.data(), {1, n, d_}),
                  {.scale = {}, .causal = false});
    attended.insert(attended.end(), out.begin(), out.end());
    const auto back = project(MatrixView<const float>(out.data(), n, d_), wo_, channels, 0);
    for (Index i = 0; i < n; ++i) {
      float best = -1e30f;
      for (Index r = 0; r < vocabulary; ++r) {
        float dot = 0;
        for (Index c = 0; c < channels; ++c) dot += back[static_cast<std::size_t>(i * channels + c)] * codebook_(r, c);
        if (dot > best) {
          best = dot;
          codes[static_cast<std::size_t>(i)] = r;
        }
      }
    }
  }
  /// What one attention under the mask gives for the inputs of all scales at once.
  std::vector<float> at_once(Context& ctx, const std::vector<std::vector<float>>& inputs) const {
    std::vector<float> q, k, v;
    std::vector<Index> bounds{0};
    for (std::size_t s = 0; s < inputs.size(); ++s) {
      const Index n = sides[s] * sides[s];
      const MatrixView<const float> input(inputs[s].data(), n, channels);
      for (auto [all, w] : {std::pair{&q, &wq_}, {&k, &wk_}, {&v, &wv_}}) {
        const auto rows = project(input, *w, d_, static_cast<Index>(s));
        all->insert(all->end(), rows.begin(), rows.end());
      }
      bounds.push_back(bounds.back() + n);
    }
    const Index n = bounds.back();
    std::vector<float> out(q.size());
    attention<float>(ctx, View<const float, 3>(q.data(), {1, n, d_}), View<const float, 3>(k.data(), {1, n, d_}),
                     View<const float, 3>(v.data(), {1, n, d_}), View<float, 3>(out.data(), {1, n, d_}),
                     score_mods(ScaleBlockCausal(bounds)));
    return out;
  }
  KvCacheBase& cache() { return cache_; }
  std::vector<float> attended;

 private:
  static std::vector<float> project(MatrixView<const float> x, const Buffer<float>& w, Index cols, Index scale) {
    std::vector<float> y(static_cast<std::size_t>(x.rows() * cols));
    for (Index i = 0; i < x.rows(); ++i)
      for (Index j = 0; j < cols; ++j) {
        float sum = static_cast<float>(scale) * 0.1f + static_cast<float>(i % 7) * 0.05f;  // places
        for (Index c = 0; c < x.cols(); ++c) sum += x(i, c) * w[c * cols + j];
        y[static_cast<std::size_t>(i * cols + j)] = sum;
      }
    return y;
  }
  Index d_;
  MatrixView<const float> codebook_;
  KvCache<F32> cache_;
  Buffer<float> wq_, wk_, wv_, wo_;
};

struct Scene {
  Scene() : codes(random_buffer<float>(vocabulary * channels, 9)), codebook(codes.data(), vocabulary, channels) {}
  std::vector<float> run(Context& ctx, Model& drafter, Model& refiner, Index drafted) const {
    ScaleCanvas canvas(channels, 8);
    collaborative_decode(ctx, drafter, refiner, drafted, sides, codebook, canvas, [&] { drafter.cache().clear(); });
    const auto all = canvas.values();
    return {all.data(), all.data() + all.size()};
  }
  Buffer<float> codes;
  MatrixView<const float> codebook;
};

TEST(CollaborativeDecode, CachedScalesAreOneAttentionUnderTheMask) {
  Context ctx;
  const Scene scene;
  Model model(16, 1, scene.codebook);
  struct Recorder {
    Model* model;
    std::vector<std::vector<float>> inputs;
    void read(Context& c, Index scale, MatrixView<const float> input) { model->read(c, scale, input); }
    void read(Context& c, Index scale, MatrixView<const float> input, std::span<Index> codes) {
      inputs.emplace_back(input.data(), input.data() + input.size());
      model->read(c, scale, input, codes);
    }
  } recorder{&model, {}};
  ScaleCanvas canvas(channels, 8);
  collaborative_decode(ctx, recorder, recorder, static_cast<Index>(sides.size()), sides, scene.codebook, canvas);
  const auto expected = model.at_once(ctx, recorder.inputs);
  ASSERT_EQ(model.attended.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) ASSERT_NEAR(model.attended[i], expected[i], 1e-5f) << i;
}

TEST(CollaborativeDecode, AllDraftedIsTheLargeModelAloneAndNoneTheSmall) {
  Context ctx;
  const Scene scene;
  const auto make = [&](Index d, std::uint64_t seed) { return Model(d, seed, scene.codebook); };
  const auto scales = static_cast<Index>(sides.size());
  Model large = make(32, 1), small = make(8, 5), other = make(8, 77), idle = make(32, 78);
  const auto alone = scene.run(ctx, large, other, scales);
  EXPECT_EQ(other.cache().tokens(), 0);
  Model again = make(32, 1);
  EXPECT_EQ(alone, scene.run(ctx, again, small, scales));
  const auto refined = scene.run(ctx, idle, small, 0);
  EXPECT_EQ(idle.cache().tokens(), 0);
  Model small_again = make(8, 5), idle_again = make(32, 99);
  EXPECT_EQ(refined, scene.run(ctx, idle_again, small_again, 0));
  EXPECT_NE(alone, refined);
}

TEST(CollaborativeDecode, BytesFallAsTheScalesSay) {
  Context ctx;
  const Scene scene;
  Index tokens = 0;
  for (const Index side : sides) tokens += side * side;
  const auto bytes = [](Index count, Index d) { return static_cast<std::size_t>(2 * 4 * count * d); };
  Index before = 0;
  for (Index drafted = 0; drafted <= static_cast<Index>(sides.size()); ++drafted) {
    Model large(32, 1, scene.codebook), small(8, 5, scene.codebook);
    large.cache().reserve(tokens);
    small.cache().reserve(tokens);
    std::size_t most_large = 0;
    ScaleCanvas canvas(channels, 8);
    collaborative_decode(ctx, large, small, drafted, sides, scene.codebook, canvas,
                         [&] { most_large = bytes(large.cache().tokens(), 32); });
    if (drafted == static_cast<Index>(sides.size())) {
      EXPECT_EQ(large.cache().tokens(), tokens);
      EXPECT_EQ(small.cache().tokens(), 0);
    } else {
      EXPECT_EQ(small.cache().tokens(), tokens);
      EXPECT_EQ(most_large, bytes(before, 32));
      EXPECT_EQ(small.cache().bytes(), bytes(tokens, 8));
      before += sides[static_cast<std::size_t>(drafted)] * sides[static_cast<std::size_t>(drafted)];
    }
  }
}

TEST(ScaleCanvas, EnlargesAndReduces) {
  ScaleCanvas canvas(1, 4);
  const std::vector<float> rows{1, 2, 3, 4};
  const MatrixView<const float> codebook(rows.data(), 4, 1);
  canvas.add(1, std::vector<Index>{1}, codebook);  // 2 everywhere
  for (Index y = 0; y < 4; ++y)
    for (Index x = 0; x < 4; ++x) EXPECT_EQ(canvas.values()(0, y, x), 2);
  canvas.add(2, std::vector<Index>{0, 1, 2, 3}, codebook);
  EXPECT_FLOAT_EQ(canvas.values()(0, 0, 0), 3);
  EXPECT_FLOAT_EQ(canvas.values()(0, 0, 1), 3.25f);
  EXPECT_FLOAT_EQ(canvas.values()(0, 3, 3), 6);
  std::vector<float> small(4), one(1);
  canvas.reduce(2, MatrixView<float>(small.data(), 4, 1));
  canvas.reduce(1, MatrixView<float>(one.data(), 1, 1));
  EXPECT_FLOAT_EQ(one[0], 4.5f);
  EXPECT_FLOAT_EQ((small[0] + small[1] + small[2] + small[3]) / 4, 4.5f);
  EXPECT_THROW(canvas.add(5, std::vector<Index>(25), codebook), shape_error);
  EXPECT_THROW(canvas.add(2, std::vector<Index>(3), codebook), shape_error);
  EXPECT_THROW(canvas.add(1, std::vector<Index>{4}, codebook), shape_error);
  EXPECT_THROW(canvas.reduce(0, MatrixView<float>(one.data(), 1, 1)), shape_error);
  EXPECT_THROW(ScaleCanvas(0, 4), shape_error);
  EXPECT_THROW(ScaleBlockCausal(std::vector<Index>{1, 2}), shape_error);
  EXPECT_THROW(ScaleBlockCausal(std::vector<Index>{0, 2, 2}), shape_error);
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera::test
