// Keys and values that are codes, read where they lie by every kernel, and what kernels may round by permission.
#include <gtest/gtest.h>

#include <support/amx_emulator.hpp>

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>
#include <tessera/attention/attention.hpp>
#include <tessera/attention/masks.hpp>
#include <tessera/attention/score_mods.hpp>
#include <vector>

#include "attention/reference.hpp"
#include "support/oracle.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

/// Rows (kv_heads, m, d) of one code, drawn, and what they stand for. Zero points and scales are positive: a number is
/// then no smaller than its parts, and the bound of f32 holds for the sum of them.
class CodedTokens {
 public:
  CodedTokens(TokenCode code, Index kv_heads, Index m, Index d, std::uint64_t seed)
      : code_(code), kv_heads_(kv_heads), m_(m), d_(d) {
    const Philox draws(seed);
    bits_ = code == TokenCode::bfloat16 || code == TokenCode::float16    ? 16
            : code == TokenCode::int8                                    ? 8
            : code == TokenCode::channels4 || code == TokenCode::blocks4 ? 4
            : code == TokenCode::channels3 || code == TokenCode::blocks3 ? 3
                                                                         : 2;
    row_bytes_ = UnpackArgs::packed_bytes(d, bits_);
    codes_.resize(static_cast<std::size_t>(kv_heads * m * row_bytes_));
    if (bits_ == 16) {
      for (Index i = 0; i < kv_heads * m * d; ++i) {
        const float x = draws.uniform(static_cast<std::uint64_t>(i)) - 0.5f;
        const std::uint16_t half = code == TokenCode::bfloat16 ? bf16(x).bits : f16(x).bits;
        std::memcpy(codes_.data() + 2 * i, &half, 2);
      }
    } else {
      for (std::size_t i = 0; i < codes_.size(); ++i) codes_[i] = static_cast<std::uint8_t>(draws.bits(i) & 0xff);
      if (bits_ == 8)
        for (auto& byte : codes_) byte = byte == 0x80 ? 0x81 : byte;
    }
    groups_ = channels() ? (m + group - 1) / group : m;
    if (d % 64 == 0 && seed % 2 == 0) shared_ = seed % 4 == 0 ? d : 64;
    meta_ = channels() ? d : (d + shared_ - 1) / shared_;
    for (Index i = 0; i < kv_heads * groups_ * meta_; ++i) {
      scale_.emplace_back((1 + draws.uniform(static_cast<std::uint64_t>(i) + 1000000)) /
                          static_cast<float>(1 << bits_));
      zero_.emplace_back(0.3f * draws.uniform(static_cast<std::uint64_t>(i) + 2000000));
    }
    for (Index i = 0; i < kv_heads * m; ++i)
      factor_.push_back((1 + draws.uniform(static_cast<std::uint64_t>(i) + 3000000)) / 256);
  }
  std::array<Index, 3> extents() const { return {kv_heads_, m_, d_}; }
  TileSource<float> source() const {
    return {this,
            [](const void* state, Index h, Index begin, Index count, float* scratch,
               Index& stride) noexcept -> const float* {
              const auto& self = *static_cast<const CodedTokens*>(state);
              self.decode(h, begin, count, scratch);
              stride = self.d_;
              return scratch;
            },
            [](const void* state, Index h, Index begin) noexcept -> TokenCodes {
              const auto& self = *static_cast<const CodedTokens*>(state);
              if (self.bits_ < 8 && self.d_ % UnpackArgs::block != 0) return {};
              return {self.code_,
                      self.row(h, begin),
                      self.row_bytes_,
                      self.end(begin) - begin,
                      self.factor_.data() + h * self.m_ + begin,
                      self.scale_.data() + self.at(h, begin),
                      self.zero_.data() + self.at(h, begin),
                      self.shared_};
            }};
  }
  void decode(Index h, Index begin, Index count, float* out) const {
    for (Index j = begin; j < begin + count; ++j, out += d_) {
      UnpackArgs args;
      args.bits = bits_;
      args.half = code_ == TokenCode::float16;
      args.codes = row(h, j);
      args.row_bytes = row_bytes_;
      args.rows = 1;
      args.d = d_;
      args.row_scale = factor_.data() + h * m_ + j;
      std::vector<f16> scale, zero;
      for (Index c = 0; c < d_; c += channels() ? 1 : UnpackArgs::block) {
        scale.push_back(scale_[static_cast<std::size_t>(meta(h, j, c))]);
        zero.push_back(zero_[static_cast<std::size_t>(meta(h, j, c))]);
      }
      args.scale = scale.data();
      args.zero = zero.data();
      args.meta_stride = channels() ? 0 : meta_;
      args.out = out;
      UnpackRef::run(args, {0, 1, 0});
    }
  }
  bool channels() const { return code_ >= TokenCode::channels4 && code_ <= TokenCode::channels2; }
  TokenCode code() const { return code_; }
  /// scale or factor of a number, and its code's size: number = step * code (+ zero).
  double step(Index h, Index j, Index c) const {
    if (bits_ == 8) return static_cast<double>(factor_[static_cast<std::size_t>(h * m_ + j)]);
    return static_cast<double>(float(scale_[static_cast<std::size_t>(meta(h, j, c))]));
  }
  double zero(Index h, Index j, Index c) const {
    if (bits_ == 8) return 0;
    return static_cast<double>(float(zero_[static_cast<std::size_t>(meta(h, j, c))]));
  }

 private:
  static constexpr Index group = 40;
  const std::uint8_t* row(Index h, Index j) const { return codes_.data() + (h * m_ + j) * row_bytes_; }
  Index at(Index h, Index j) const { return (h * groups_ + (channels() ? j / group : j)) * meta_; }
  Index meta(Index h, Index j, Index c) const { return at(h, j) + (channels() ? c : c / shared_); }
  Index end(Index j) const { return channels() ? std::min(m_, (j / group + 1) * group) : m_; }

  TokenCode code_;
  Index kv_heads_, m_, d_, row_bytes_ = 0, groups_ = 0, meta_ = 0, shared_ = UnpackArgs::block;
  int bits_ = 0;
  std::vector<std::uint8_t> codes_;
  std::vector<f16> scale_, zero_;
  std::vector<float> factor_;
};

constexpr std::array<TokenCode, 10> all_codes{
    TokenCode::bfloat16,  TokenCode::float16, TokenCode::int8,    TokenCode::channels4, TokenCode::channels3,
    TokenCode::channels2, TokenCode::blocks4, TokenCode::blocks3, TokenCode::blocks2,   TokenCode::int8};

struct Coded {
  Coded(const AttentionShape& s, TokenCode keys, TokenCode values, std::uint64_t seed)
      : K(keys, s.kv_heads, s.m, s.d, seed), V(values, s.kv_heads, s.m, s.dv, seed + 1), p(s, seed) {
    for (Index h = 0; h < s.kv_heads; ++h) {
      K.decode(h, 0, s.m, p.k.data() + h * s.m * s.d);
      V.decode(h, 0, s.m, p.v.data() + h * s.m * s.dv);
    }
  }
  template <class... Mods>
  void run(Context& ctx, const ScoreMods<Mods...>& mods, AttentionOptions options) {
    std::fill(p.o.begin(), p.o.end(), std::nanf(""));
    attention<float>(ctx, p.Q(), K, V, p.out(), mods, options, {p.lse(), p.entropy()});
  }
  CodedTokens K, V;
  AttentionProblem<float> p;
};

std::vector<AttentionShape> shapes(Index d) { return {{4, 1, 1, 131, d, d}, {1, 1, 1, 65, d, d}, {6, 2, 2, 77, d, d}}; }

TEST(AttentionCoded, EveryKernelReadsCodesAsNumbers) {
  for_each_attention_kernel<float>([](Context& ctx) {
    std::uint64_t seed = 1;
    for (std::size_t i = 0; i + 1 < all_codes.size(); ++i)
      for (const Index d : {96, 128, 40}) {
        const TokenCode values = all_codes[i + 1];
        for (const AttentionShape& shape : shapes(d)) {
          SCOPED_TRACE(shape.text() + ", code " + std::to_string(i));
          Coded x(shape, all_codes[i], values, ++seed);
          const AnyMask mask(sliding_window(70, 3));
          x.run(ctx, score_mods(mask), {});
          AttentionExpectation<float>(x.p, AnyMod(), mask).compare(x.p);
          if (::testing::Test::HasFailure()) return;
        }
      }
  });
}

/// What rounding to 8 bits may move. A score: half a step of the query's units times the sum of codes. A result: half a
/// step of the largest weight times a scale, for every code. The 0.001 is what f32 adds to codes and steps.
struct Moved {
  explicit Moved(const Coded& x) : shape(x.p.shape) {
    const auto& s = shape;
    const double scale = 1 / std::sqrt(static_cast<double>(s.d));
    for (Index h = 0; h < s.heads; ++h)
      for (Index i = 0; i < s.n; ++i) {
        const Index g = h / (s.heads / s.kv_heads);
        std::vector<double> weight;
        double total = 0, most = 0;
        for (Index j = 0; j < s.m; ++j) {
          double largest = 0, codes = 0, dot = 0;
          for (Index c = 0; c < s.d; ++c) {
            const double key = static_cast<double>(x.p.K()(g, j, c)), number = key - x.K.zero(g, j, c);
            const double step = x.K.channels() ? x.K.step(g, j, c) : 1,
                         q = static_cast<double>(x.p.Q()(h, i, c)) * scale;
            largest = std::max(largest, std::abs(q) * step);
            codes += std::abs(number) / step;
            dot += q * key;
          }
          most = std::max(most, largest / 254 * codes);
          weight.push_back(std::exp(dot));
          total += weight.back();
        }
        score.push_back(most * 1.001);
        for (Index c = 0; c < s.dv; ++c) {
          double largest = 0, codes = 0;
          for (Index j = 0; j < s.m; ++j) {
            const double step = x.V.step(g, j, c);
            largest = std::max(largest, weight[static_cast<std::size_t>(j)] / total * step);
            codes += std::abs(static_cast<double>(x.p.V()(g, j, c)) - x.V.zero(g, j, c)) / step;
          }
          out.push_back(largest / 510 * codes * 1.001);
        }
      }
  }
  AttentionShape shape;
  std::vector<double> score, out;
};

/// Forced, or told why not.
bool forced(Context& ctx, std::string_view name, const AttentionShape& shape, AttentionPrecision precision) {
  AttentionArgs<float> args;
  args.precision = precision;
  args.n = shape.n;
  args.group = shape.heads / shape.kv_heads;
  args.d = shape.d;
  args.out = View<float, 3>(nullptr, {shape.heads, shape.n, shape.dv});
  args.keys.codes = [](const void*, Index, Index) noexcept { return TokenCodes{}; };
  for (const auto& kernel : AttentionKernels<float>::entries<AttentionArgs<float>>())
    if (kernel.name == name) {
      if (!kernel.accepts(args))
        std::printf("[ skipped  ] %s: %s\n", std::string(name).c_str(), kernel.why_not(args).c_str());
      ctx.force(name);
      return kernel.accepts(args);
    }
  return false;
}

using CodePair = std::pair<TokenCode, TokenCode>;

/// Whether a kernel rounds queries over such keys of d channels, and weights over such values.
using Rounds = bool (*)(TokenCode, Index d);

void integers_within_their_steps(const char* kernel, const std::vector<CodePair>& pairs,
                                 const std::vector<AttentionShape>& cases, Rounds queries, Rounds weights) {
  for (const AttentionPrecision precision : {AttentionPrecision::int8_queries, AttentionPrecision::int8})
    for (const auto& [keys, values] : pairs)
      for (const AttentionShape& shape : cases) {
        const std::uint64_t seed = static_cast<std::uint64_t>(shape.d + shape.m) / 4 * 4;
        for (const std::uint64_t shared : {0u, 1u, 3u}) {  // values' scales: of a block, of 64 channels, of all
          SCOPED_TRACE(shape.text() + ", codes " + std::to_string(static_cast<int>(keys)) + " and " +
                       std::to_string(static_cast<int>(values)));
          Context ctx;
          if (!forced(ctx, kernel, shape, precision)) return;
          Coded x(shape, keys, values, seed + shared);
          x.run(ctx, score_mods(), {.scale = {}, .causal = false, .precision = precision});
          AttentionExpectation<float>::Slack slack;
          const Moved moved(x);
          if (queries(keys, shape.d))
            slack.score = [&](Index h, Index i) { return moved.score[static_cast<std::size_t>(h * shape.n + i)]; };
          if (precision == AttentionPrecision::int8 && weights(values, shape.dv))
            slack.out = [&](Index h, Index i, Index c) {
              return moved.out[static_cast<std::size_t>((h * shape.n + i) * shape.dv + c)];
            };
          const AttentionExpectation<float> expected(x.p, AnyMod(), AnyMask());
          expected.compare(x.p, slack);
          if (::testing::Test::HasFailure()) return;
        }
      }
}

TEST(AttentionCoded, IntegerQueriesAndWeightsAreWithinTheirSteps) {
  std::vector<AttentionShape> cases;
  for (const Index d : {128, 256, 64, 96, 80, 40, 16})
    for (const AttentionShape& shape : shapes(d)) cases.push_back(shape);
  integers_within_their_steps(
      "attention:avx512_vnni",
      {{TokenCode::int8, TokenCode::int8},
       {TokenCode::channels4, TokenCode::blocks4},
       {TokenCode::channels2, TokenCode::blocks2},
       {TokenCode::channels2, TokenCode::int8},
       {TokenCode::blocks4, TokenCode::channels4}},
      cases, [](TokenCode keys, Index) { return keys != TokenCode::blocks4; },
      [](TokenCode values, Index) { return values != TokenCode::channels4; });
}

TEST(AttentionCoded, PermissionAloneChoosesTheIntegerKernelAndTakesNoneElsewhere) {
  const AttentionShape shape{4, 1, 1, 200, 128, 128};
  Coded x(shape, TokenCode::int8, TokenCode::int8, 3), exact(shape, TokenCode::int8, TokenCode::int8, 3);
  Context ctx;
  const AttentionOptions options{.scale = {}, .causal = false, .precision = AttentionPrecision::int8};
  x.run(ctx, score_mods(), options);
  exact.run(ctx, score_mods(), {});
  double apart = 0, size = 0;
  for (Index i = 0; i < x.p.o.size(); ++i) {
    apart = std::max(apart, static_cast<double>(std::abs(x.p.o[i] - exact.p.o[i])));
    size = std::max(size, static_cast<double>(std::abs(exact.p.o[i])));
  }
  EXPECT_LT(apart, 0.02 * size);
  Context plain;
  if (forced(plain, "attention:avx512_vnni", shape, AttentionPrecision::int8)) {
    EXPECT_GT(apart, 0);
  }
  Context other;
  other.force("attention:ref");
  x.run(other, score_mods(), options);
  AttentionExpectation<float>(x.p, AnyMod(), AnyMask()).compare(x.p);
}

TEST(AttentionCoded, NotFiniteScalesReachTheResultInIntegersToo) {
  const AttentionShape shape{4, 1, 1, 80, 128, 128};
  Context ctx;
  if (!forced(ctx, "attention:avx512_vnni", shape, AttentionPrecision::int8)) return;
  for (const TokenCode code : {TokenCode::int8, TokenCode::channels4}) {
    Coded x(shape, code, TokenCode::int8, 5);
    x.p.q[130] = std::nanf("");  // of the second head
    x.run(ctx, score_mods(), {.scale = {}, .causal = false, .precision = AttentionPrecision::int8});
    EXPECT_TRUE(std::isfinite(x.p.out()(0, 0, 7)));
    EXPECT_TRUE(std::isnan(x.p.out()(1, 0, 7)));
    EXPECT_TRUE(std::isfinite(x.p.out()(2, 0, 7)));
  }
}

void bfloat16_products(const char* kernel, bool exact_inputs, const std::vector<AttentionShape>& cases) {
  for (const AttentionShape& shape : cases)
    for (const int stored : {0, 1}) {
      SCOPED_TRACE(shape.text() + (stored == 1 ? ", bf16" : ", f32"));
      Context ctx;
      if (!forced(ctx, kernel, shape, AttentionPrecision::bfloat16)) return;
      AttentionProblem<float> p(shape, static_cast<std::uint64_t>(shape.m));
      if (exact_inputs || stored == 1)
        for (Buffer<float>* of : {&p.q, &p.k, &p.v})
          for (float& x : *of) x = float(bf16(x));
      const AnyMask mask(sliding_window(100, 2));
      const AnyMod mod(Alibi(shape.heads));
      const AttentionOptions options{.scale = {}, .causal = false, .precision = AttentionPrecision::bfloat16};
      const AttentionStatistics<float> also{p.lse(), p.entropy()};
      if (stored == 1) {
        Buffer<bf16> k(p.k.size()), v(p.v.size());
        for (Index i = 0; i < k.size(); ++i) k[i] = bf16(p.k[i]);
        for (Index i = 0; i < v.size(); ++i) v[i] = bf16(p.v[i]);
        attention<float>(ctx, p.Q(), View<const bf16, 3>(k.data(), p.K().extents()),
                         View<const bf16, 3>(v.data(), p.V().extents()), p.out(), score_mods(mod, mask), options, also);
      } else {
        attention<float>(ctx, p.Q(), p.K(), p.V(), p.out(), score_mods(mod, mask), options, also);
      }
      // Products of bf16 are exact in f32. A weight is off by 2^-8 of itself; numbers rounded on the way in by as much
      // each, two of them in a product.
      AttentionExpectation<float>::Slack slack;
      slack.weight = 0x1.01p-8;
      if (!exact_inputs && stored == 0) {
        slack.weight = 0x1.01p-7;
        slack.score = [&](Index h, Index i) {
          double most = 0;
          for (Index j = 0; j < shape.m; ++j) {
            double sum = 0;
            for (Index c = 0; c < shape.d; ++c)
              sum += std::abs(static_cast<double>(p.Q()(h, i, c)) *
                              static_cast<double>(p.K()(h / (shape.heads / shape.kv_heads), j, c)));
            most = std::max(most, sum);
          }
          return most / std::sqrt(static_cast<double>(shape.d)) * 0x1.01p-7;
        };
      }
      AttentionExpectation<float>(p, mod, mask).compare(p, slack);
      if (::testing::Test::HasFailure()) return;
    }
}

TEST(AttentionCoded, Bfloat16InputsAreOffByTheirWeightsAlone) {
  for (const bool exact_inputs : {true, false})
    bfloat16_products("attention:avx512_bf16", exact_inputs,
                      {{2, 1, 9, 9, 16, 16},
                       {1, 1, 64, 64, 64, 64},
                       {4, 2, 33, 130, 31, 20},
                       {3, 1, 70, 65, 128, 9},
                       {1, 1, 100, 129, 96, 33},
                       {6, 2, 5, 4200, 8, 8},
                       {1, 1, 17, 1, 1, 1},
                       {2, 2, 21, 64, 33, 48}});
}

TEST(AttentionCoded, SoAreTheyInTilesOfAmx) {
  const AmxEmulation amx;
  for (const bool exact_inputs : {true, false})
    bfloat16_products("attention:amx_bf16", exact_inputs,
                      {{2, 1, 9, 9, 16, 16},
                       {1, 1, 64, 64, 64, 64},
                       {4, 2, 33, 130, 31, 32},
                       {3, 1, 70, 65, 128, 16},
                       {1, 1, 100, 129, 96, 48},
                       {2, 1, 40, 300, 64, 80},
                       {1, 1, 17, 1, 40, 16}});
}

/// The same codes, known as such up to token `end` of a head alone, in runs of `run` tokens, each somewhere for as long
/// as TileSource asks for.
struct PartlyCoded {
  const CodedTokens& of;
  Index run, end;
  mutable std::array<std::vector<std::int8_t>, TileSource<float>::codes_alive> places = {};
  mutable std::size_t asked = 0;
  std::array<Index, 3> extents() const { return of.extents(); }
  TileSource<float> source() const {
    return {this,
            [](const void* state, Index h, Index begin, Index count, float* scratch, Index& stride) noexcept {
              const TileSource<float> all = static_cast<const PartlyCoded*>(state)->of.source();
              return all.tile(all.state, h, begin, count, scratch, stride);
            },
            [](const void* state, Index h, Index begin) noexcept -> TokenCodes {
              const auto& self = *static_cast<const PartlyCoded*>(state);
              if (begin >= self.end) return {};
              const TileSource<float> all = self.of.source();
              TokenCodes found = all.codes(all.state, h, begin);
              found.count = std::min(std::min(self.end, (begin / self.run + 1) * self.run) - begin, found.count);
              if (found.code != TokenCode::int8) return found;
              auto& place = self.places[self.asked++ % self.places.size()];
              const auto* const codes = static_cast<const std::int8_t*>(found.codes);
              std::vector<std::int8_t>(codes, codes + found.count * found.row_bytes).swap(place);
              found.codes = place.data();
              return found;
            }};
  }
};

const std::vector<AttentionShape> many_queries{
    {1, 1, 16, 16, 16, 16},   {4, 2, 9, 130, 64, 32},  {2, 2, 33, 65, 80, 48},  {1, 1, 70, 3, 31, 16},
    {3, 1, 17, 128, 128, 20}, {1, 1, 16, 77, 130, 80}, {1, 1, 16, 4200, 16, 16}};

TEST(AttentionCoded, IntegersOfManyQueriesAreWithinTheirSteps) {
  const AmxEmulation amx;
  integers_within_their_steps(
      "attention:amx_int8",
      {{TokenCode::int8, TokenCode::int8},
       {TokenCode::channels4, TokenCode::int8},
       {TokenCode::int8, TokenCode::blocks4}},
      many_queries, [](TokenCode keys, Index) { return keys == TokenCode::int8; },
      [](TokenCode values, Index dv) { return values == TokenCode::int8 && dv % 16 == 0; });
}

TEST(AttentionCoded, IntegersOfManyQueriesHeedMasksAndMods) {
  const AmxEmulation amx;
  for (const AttentionShape& shape : {AttentionShape{4, 2, 33, 140, 64, 32}, AttentionShape{2, 1, 20, 200, 48, 16}})
    for (const Index end : {shape.m, Index{70}, Index{0}}) {
      SCOPED_TRACE(shape.text() + ", coded to " + std::to_string(end));
      Context ctx;
      if (!forced(ctx, "attention:amx_int8", shape, AttentionPrecision::int8)) return;
      Coded x(shape, TokenCode::int8, TokenCode::int8, 7);
      const PartlyCoded keys{x.K, end == 70 ? 3 : 24, end}, values{x.V, end == 70 ? 3 : 10, shape.m - end / 2};
      const AnyMask mask(sliding_window(50, 3));
      const AnyMod mod(Alibi(shape.heads));
      attention<float>(ctx, x.p.Q(), keys, values, x.p.out(), score_mods(mod, mask),
                       {.scale = {}, .causal = false, .precision = AttentionPrecision::int8},
                       {x.p.lse(), x.p.entropy()});
      AttentionExpectation<float>::Slack slack;
      const Moved moved(x);
      double most = 0;
      for (const double score : moved.score) most = std::max(most, score);
      if (end > 0) slack.score = [&](Index, Index) { return most; };
      // Not all is masked, and what is left weighs more: half a step of the largest weight, which is 1 at most.
      slack.out = [&](Index h, Index, Index c) {
        double step = 0;
        const Index g = h / (shape.heads / shape.kv_heads);
        double codes = 0;
        for (Index j = 0; j < shape.m; ++j) {
          step = std::max(step, x.V.step(g, j, c));
          codes += std::abs(static_cast<double>(x.p.V()(g, j, c))) / x.V.step(g, j, c);
        }
        return step / 510 * codes * 1.001;
      };
      AttentionExpectation<float>(x.p, mod, mask).compare(x.p, slack);
    }
}

/// Writes down what it is given.
struct Witness {
  float* scores;  // (heads, n, m)
  Index n, m;
  float operator()(float score, const ScorePosition& at) const {
    return scores[(at.head * n + at.query) * m + at.key] = score;
  }
};

TEST(AttentionCoded, ScoresOfManyQueriesAreThoseOfFewBitForBit) {
  const AmxEmulation amx;
  for (const AttentionShape& shape : {AttentionShape{4, 2, 12, 150, 80, 16}, AttentionShape{1, 1, 16, 64, 128, 16}}) {
    SCOPED_TRACE(shape.text());
    const AttentionOptions options{.scale = {}, .causal = false, .precision = AttentionPrecision::int8_queries};
    const AttentionShape few{shape.heads, shape.kv_heads, 1, shape.m, shape.d, shape.dv};
    Context many_ctx, few_ctx;
    if (!forced(many_ctx, "attention:amx_int8", shape, options.precision) ||
        !forced(few_ctx, "attention:avx512_vnni", few, options.precision))
      return;
    Coded x(shape, TokenCode::int8, TokenCode::int8, 11);
    const auto size = static_cast<std::size_t>(shape.heads * shape.n * shape.m);
    std::vector<float> many(size, -1.0f), one(size, -2.0f);
    x.run(many_ctx, score_mods(Witness{many.data(), shape.n, shape.m}), options);
    for (Index i = 0; i < shape.n; ++i) {
      std::vector<float> seen(static_cast<std::size_t>(shape.heads * shape.m));
      const View<const float, 3> query(x.p.q.data() + i * shape.d, {shape.heads, 1, shape.d},
                                       {shape.n * shape.d, shape.d, 1});
      Buffer<float> out(shape.heads * shape.dv);
      attention<float>(few_ctx, query, x.K, x.V, View<float, 3>(out.data(), {shape.heads, 1, shape.dv}),
                       score_mods(Witness{seen.data(), 1, shape.m}), options);
      for (Index h = 0; h < shape.heads; ++h)
        std::copy_n(seen.data() + h * shape.m, shape.m, one.data() + (h * shape.n + i) * shape.m);
    }
    EXPECT_EQ(std::memcmp(many.data(), one.data(), size * sizeof(float)), 0);
  }
}

TEST(AttentionCoded, IntegersOfManyQueriesDoNotDependOnThreads) {
  const AmxEmulation amx;
  const AttentionShape shape{4, 2, 70, 70, 32, 32};
  const AttentionOptions options{.scale = {}, .causal = true, .precision = AttentionPrecision::int8};
  Context ctx;
  if (!forced(ctx, "attention:amx_int8", shape, options.precision)) return;
  Coded x(shape, TokenCode::int8, TokenCode::int8, 13), y(shape, TokenCode::int8, TokenCode::int8, 13);
  x.run(ctx, score_mods(), options);
  Context threads = Context::with_threads(3);
  threads.force("attention:amx_int8");
  y.run(threads, score_mods(), options);
  const auto bytes = static_cast<std::size_t>(x.p.o.size()) * sizeof(float);
  EXPECT_EQ(std::memcmp(x.p.o.data(), y.p.o.data(), bytes), 0);
  y.run(threads, score_mods(), {.scale = {}, .causal = true, .precision = AttentionPrecision::int8_queries});
  EXPECT_NE(std::memcmp(x.p.o.data(), y.p.o.data(), bytes), 0) << "weights are not rounded";
}

TEST(AttentionCoded, NotFiniteQueriesOfManyReachTheirResultsAlone) {
  const AmxEmulation amx;
  const AttentionShape shape{2, 1, 20, 70, 64, 16};
  Context ctx;
  if (!forced(ctx, "attention:amx_int8", shape, AttentionPrecision::int8)) return;
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    Coded x(shape, TokenCode::int8, TokenCode::int8, 17);
    x.p.q[3 * shape.d + 5] = bad;
    x.run(ctx, score_mods(), {.scale = {}, .causal = false, .precision = AttentionPrecision::int8});
    for (Index h = 0; h < shape.heads; ++h)
      for (Index i = 0; i < shape.n; ++i)
        EXPECT_EQ(std::isfinite(x.p.out()(h, i, 2)), h != 0 || i != 3) << h << ", " << i;
  }
}

TEST(AttentionCoded, ManyIntegerQueriesGoToTheKernelThatTakesThem) {
  const AmxEmulation amx;
  Context ctx;
  const AttentionShape shape{1, 1, 16, 64, 64, 64};
  if (!forced(ctx, "attention:amx_int8", shape, AttentionPrecision::int8)) return;
  const auto chosen = [](Index group, Index n, Index d, AttentionPrecision precision) {
    AttentionArgs<float> args;
    args.precision = precision;
    args.group = group;
    args.n = n;
    args.d = d;
    args.out = View<float, 3>(nullptr, {group, n, 16});
    args.keys.codes = [](const void*, Index, Index) noexcept { return TokenCodes{}; };
    return AttentionKernels<float>::select(Context(), args).name;
  };
  for (const AttentionPrecision precision : {AttentionPrecision::int8_queries, AttentionPrecision::int8}) {
    EXPECT_EQ(chosen(1, 16, 64, precision), "attention:amx_int8");
    EXPECT_EQ(chosen(8, 2, 16, precision), "attention:amx_int8");
    EXPECT_EQ(chosen(1, 15, 64, precision), "attention:avx512");
    EXPECT_EQ(chosen(1, 16, 15, precision), "attention:avx512");
    EXPECT_EQ(chosen(1, 8, 64, precision), "attention:avx512_vnni");
  }
  EXPECT_EQ(chosen(1, 16, 64, AttentionPrecision::exact), "attention:avx512");
}

}  // namespace
}  // namespace tessera::test
