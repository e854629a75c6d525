#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <support/oracle.hpp>
#include <tessera/tune/gemm.hpp>
#include <vector>

namespace tessera {
namespace TESSERA_TEST_FILE {

using T = float;

// Others run at the same time: the timers take processor time.
[[maybe_unused]] const int cpu_clock = setenv("TESSERA_CLOCK", "cpu", 0);

#if defined(__SANITIZE_ADDRESS__)
constexpr bool sanitized = true;
#elif defined(__has_feature)
constexpr bool sanitized = __has_feature(address_sanitizer);
#else
constexpr bool sanitized = false;
#endif

struct Product {
  Index m, n, k;
  Buffer<T> a = test::random_buffer<T>(m * k, 1), b = test::random_buffer<T>(k * n, 2), c = Buffer<T>(m * n);
  MatrixView<const T> A() const { return {a.data(), m, k}; }
  MatrixView<const T> B() const { return {b.data(), k, n}; }
  MatrixView<T> C() { return {c.data(), m, n}; }
};

/// Sizes that the search would not take, tiles of one step among them.
std::vector<GemmBlocks> extremes() {
  return {{1, 1, 1}, {14, 8, 32}, {28, 30, 100}, {4096, 4096, 8192}, {70, 33, 0}, {0, 0, 96}, {0, 17, 0}};
}

TEST(GemmBlocks, NeverChangeAResultBeyondTheBound) {
  const GemmBlocks before = gemm_blocks<T>();
  auto all = extremes();
  const auto ordinary = all.size();
  for (const auto& b : gemm_candidates<T>()) all.push_back(b);
  EXPECT_LE(all.size(), ordinary + 50);
  Product p{75, 130, 150};
  Product first{75, 130, 150};
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto& blocks = all[i];
    SCOPED_TRACE(detail::concat("mc ", blocks.mc, " kc ", blocks.kc, " nc ", blocks.nc));
    set_gemm_blocks<T>(blocks);
    EXPECT_EQ(gemm_blocks<T>(), blocks);
    for (const char* kernel : {"", "gemm:avx2", "gemm:xsimd"}) {
      if (*kernel != 0 && i >= ordinary) continue;
      Context ctx;
      if (std::string_view(kernel) == "gemm:avx2" && !active_isa().has(Isa::avx2)) continue;
      if (*kernel != 0) ctx.force(kernel);
      gemm(ctx, T(1), p.A(), p.B(), T(0), p.C());
      test::expect_product(T(1), p.A(), p.B(), T(0), MatrixView<const T>(p.C()), MatrixView<const T>(p.C()));
      Context several = Context::with_threads(2);
      if (*kernel != 0) several.force(kernel);
      gemm(several, T(1), p.A(), p.B(), T(0), first.C());
      EXPECT_EQ(0, std::memcmp(p.c.data(), first.c.data(), p.c.bytes())) << "two threads";
    }
  }
  // A factor that was packed keeps the blocks it was packed in.
  set_gemm_blocks<T>({28, 20, 64});
  Context ctx = Context::with_threads(2);
  const PackedFactor<T> packed(ctx, p.B());
  set_gemm_blocks<T>({56, 36, 32});
  packed.multiply(ctx, T(1), p.A(), T(0), p.C());
  test::expect_product(T(1), p.A(), p.B(), T(0), MatrixView<const T>(p.C()), MatrixView<const T>(p.C()));
  set_gemm_blocks<T>(before);
}

TEST(CacheSizes, AreFoundAndCanBeGiven) {
  EXPECT_GE(cache_sizes().l1, Index{1} << 10);
  EXPECT_GE(cache_sizes().l2, cache_sizes().l1);
  const auto given = [](const char* text) {
    const CacheSizes s = detail::parse_caches(text, {1, 2, 3});
    return std::vector<Index>{s.l1, s.l2, s.l3};
  };
  EXPECT_EQ(given("48,1024,32768"), (std::vector<Index>{48 << 10, 1 << 20, 32 << 20}));
  EXPECT_EQ(given("48"), (std::vector<Index>{48 << 10, 2, 3}));
  EXPECT_EQ(given("-4,0,99999999999"), (std::vector<Index>{1, 2, 3}));
  EXPECT_EQ(given(""), (std::vector<Index>{1, 2, 3}));
  EXPECT_EQ(given("many"), (std::vector<Index>{1, 2, 3}));
}

TEST(GemmBlocks, FileIsReadBack) {
  const auto path =
      std::filesystem::temp_directory_path() /
      detail::concat("tessera_gemm_blocks_", static_cast<Index>(std::hash<std::string>()(isa_text(active_isa()))));
  std::filesystem::remove(path);
  EXPECT_EQ(load_gemm_blocks<float>(path.c_str()), GemmBlocks());
  EXPECT_TRUE(save_gemm_blocks<float>(path.c_str(), {1, 2, 3}));
  EXPECT_TRUE(save_gemm_blocks<double>(path.c_str(), {7, 8, 9}));
  EXPECT_TRUE(save_gemm_blocks<float>(path.c_str(), {140, 512, 2048}));
  std::ofstream(path, std::ios::app) << "f32 5 5 5 another processor\nf32 -4 2 2 " << isa_text(active_isa())
                                     << "\nnonsense\nf32 1 1\n";
  EXPECT_EQ(load_gemm_blocks<float>(path.c_str()), (GemmBlocks{140, 512, 2048}));
  EXPECT_EQ(load_gemm_blocks<double>(path.c_str()), (GemmBlocks{7, 8, 9}));
  EXPECT_FALSE(save_gemm_blocks<float>((path / "below").c_str(), {1, 2, 3}));
  std::filesystem::remove(path);
}

TEST(GemmBlocks, RefusesWhatNoProductCanTake) {
  const auto before = gemm_blocks<float>();
  EXPECT_THROW(set_gemm_blocks<float>({std::numeric_limits<Index>::max(), 0, 0}), unsupported_error);
  EXPECT_THROW(set_gemm_blocks<float>({0, -1, 0}), unsupported_error);
  EXPECT_EQ(gemm_blocks<float>(), before);
  EXPECT_EQ(load_gemm_blocks<float>("/dev/zero"), GemmBlocks());  // ends
}

TEST(GemmTune, RefusesShapesAndRepeats) {
  Context ctx;
  for (const GemmShape& s : std::vector<GemmShape>{{0, 4, 4}, {4, -5, 4}, {4, 4, 0}, {Index{1} << 40, 1 << 20, 4}})
    EXPECT_THROW(tune_gemm<T>(ctx, std::vector<GemmShape>{s}), shape_error) << s.m << " " << s.n << " " << s.k;
  const std::vector<GemmShape> shapes = {{8, 8, 8}};
  EXPECT_THROW(tune_gemm<T>(ctx, shapes, {.repeats = 0}), unsupported_error);
  GemmBlocksTimer<T> time(shapes);
  EXPECT_THROW(time(ctx, {9, 8, 8}, {}, 1), shape_error);
  EXPECT_THROW(time(ctx, shapes[0], {-1, 0, 0}, 1), unsupported_error);
}

struct Fit {
  double r_squared, chosen, worst;  // times of the model's choice and of the slowest, in times of the fastest
};

/// A model of half of the shapes, and what it says of the other half.
Fit fit_half() {
  Context ctx;
  const std::vector<GemmShape> shapes = {{64, 64, 64},    {128, 96, 160},  {192, 192, 192}, {96, 320, 128},
                                         {256, 128, 256}, {320, 320, 128}, {80, 400, 300},  {256, 256, 256}};
  const std::vector<GemmBlocks> blocks = {{},         {28, 64, 256}, {56, 128, 512}, {140, 64, 2048}, {14, 256, 64},
                                          {14, 4, 32}};
  GemmBlocksTimer<T> time(shapes);
  std::vector<GemmTrial> known, other;
  for (std::size_t s = 0; s < shapes.size(); ++s)
    for (const auto& b : blocks) (s % 2 == 0 ? known : other).push_back({shapes[s], b, time(ctx, shapes[s], b, 3)});
  const GemmCostModel<T> model(known);
  double chosen = 0, best = 0, worst = 0;
  for (auto first = other.begin(); first != other.end(); first += static_cast<std::ptrdiff_t>(blocks.size())) {
    const auto last = first + static_cast<std::ptrdiff_t>(blocks.size());
    const auto by_time = [](const auto& a, const auto& b) { return a.seconds < b.seconds; };
    const auto by_model = [&](const auto& a, const auto& b) {
      return model.seconds(a.shape, a.blocks) < model.seconds(b.shape, b.blocks);
    };
    chosen += std::min_element(first, last, by_model)->seconds;
    best += std::min_element(first, last, by_time)->seconds;
    worst += std::max_element(first, last, by_time)->seconds;
  }
  return {model.r_squared(other), chosen / best, worst / best};
}

TEST(GemmTune, ModelOfHalfOfTheShapesPredictsTheOthers) {
  if (!active_isa().has(Isa::avx2)) GTEST_SKIP() << "the portable kernel alone would take too long";
  if (sanitized) GTEST_SKIP() << "the sanitizer's time is not the kernel's";
  Fit fit{};
  for (int turn = 0; turn < 5; ++turn) {  // others may disturb one
    fit = fit_half();
    if (fit.r_squared >= 0.9 && fit.chosen <= 1.1 && fit.worst >= 3) break;
  }
  std::printf("[          ] R^2 %.3f; chosen %.2f, worst %.1f times the best's time\n", fit.r_squared, fit.chosen,
              fit.worst);
  if (fit.r_squared < 0.9 || fit.chosen > 1.25 || fit.worst < 2)
    GTEST_SKIP() << "times are too disturbed for a judgement: R^2 " << fit.r_squared << ", chosen " << fit.chosen;
}

TEST(GemmTune, SmallSearch) {
  if (!active_isa().has(Isa::avx2)) GTEST_SKIP() << "the portable kernel alone would take too long";
  Context ctx;
  const std::vector<GemmShape> shapes = {{128, 128, 128}, {64, 256, 192}};
  const auto found = tune_gemm<T>(ctx, shapes, {.seconds = 1, .candidates = 20, .repeats = 2});
  EXPECT_FALSE(found.trials.empty());
  EXPECT_LE(found.trials.size(), 20 * shapes.size());
  EXPECT_GE(found.gain, 1);
  EXPECT_EQ(found.blocks == GemmBlocks(), found.gain == 1);
  EXPECT_NE(found.text().find("f32: mc "), std::string::npos) << found.text();
  // At least 90% of the rate of the best of all that was measured, as an exhaustive search of them would choose.
  const auto candidates = gemm_candidates<T>(20);
  GemmBlocksTimer<T> time(shapes);
  for (const auto& shape : shapes) {
    double best = 1e9;
    for (const auto& b : candidates) best = std::min(best, time(ctx, shape, b, 3));
    double chosen = 1e9;
    for (int i = 0; i < 3; ++i) chosen = std::min(chosen, time(ctx, shape, found.blocks, 3));
    std::printf("[          ] %ldx%ldx%ld: %.2f of the best's rate\n", static_cast<long>(shape.m),
                static_cast<long>(shape.n), static_cast<long>(shape.k), best / chosen);
  }
  EXPECT_TRUE(tune_gemm<T>(ctx, {}).trials.empty());
}

}  // namespace
}  // namespace tessera
