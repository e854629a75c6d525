// Attention drawn at random: shapes, layouts, storages, masks, score-mods and splits against the softmax in double.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <tessera/attention/attention.hpp>
#include <tessera/attention/masks.hpp>
#include <tessera/attention/score_mods.hpp>
#include <tessera/kv/any.hpp>
#include <vector>

#include "attention/reference.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

struct NamedMask {
  std::string name;
  AnyMask mask;
};

/// Everything masks.hpp has, for n queries over m keys.
std::vector<NamedMask> masks(Index n, Index m, std::uint64_t seed, const Buffer<std::uint8_t>& cells) {
  const Draws draw(seed);
  std::vector<Index> boundaries{0}, parents;
  while (boundaries.back() < m) boundaries.push_back(std::min(m, boundaries.back() + draw(0, 40)));
  const Index context = std::max<Index>(m - n, 0);
  for (Index i = 0; i < n; ++i) parents.push_back(draw(-1, i - 1));
  const Index block = 1 + draw(0, 30);
  const View<const std::uint8_t, 3> grid(cells.data(), {1, std::max<Index>(n / block, 1), m / 16 + 1});
  return {{"none", AnyMask()},
          {"causal", AnyMask(CausalMask{})},
          {"window", AnyMask(sliding_window(1 + draw(0, m)))},
          {"window with sinks", AnyMask(sliding_window(1 + draw(0, 20), draw(0, 8)))},
          {"prefix", AnyMask(PrefixLm{draw(0, m)})},
          {"documents", AnyMask(DocumentMask(boundaries))},
          {"blocks", AnyMask(BlockMask(grid, block, 16))},
          {"tree", AnyMask(TreeMask(context, parents))},
          {"every third", AnyMask([](const ScorePosition& at) { return (at.key + at.query + at.head) % 3 == 0; })}};
}

std::vector<std::pair<std::string, AnyMod>> mods(Index heads, const Buffer<float>& table) {
  const MatrixView<const float> biases(table.data(), heads, 21);
  return {{"plain", AnyMod()},
          {"alibi", AnyMod(Alibi(heads))},
          {"cap", AnyMod(soft_cap(1.5))},
          {"bias", AnyMod(RelativeBias<float>(biases))},
          {"of one's own", AnyMod([](auto score, const ScorePosition& at) {
             return score * static_cast<decltype(score)>(at.key % 2 == 0 ? 0.5 : -1);
           })}};
}

template <class T>
void draws(int rounds) {
  const Buffer<float> table = random_buffer<float>(16 * 21, 5);
  Buffer<std::uint8_t> cells(1000);
  for (Index i = 0; i < cells.size(); ++i)
    cells[i] = static_cast<std::uint8_t>(Philox(9).bits(static_cast<std::uint64_t>(i)) % 3 == 0);
  std::uint64_t round = 0;
  for_each_attention_kernel<T>([&](Context& ctx) {
    for (int trial = 0; trial < rounds; ++trial, ++round) {
      const Draws draw(1000 + round);
      AttentionShape shape;
      shape.kv_heads = draw(1, 2);
      shape.heads = shape.kv_heads * draw(1, 4);
      shape.n = draw(0, 2) == 0 ? draw(1, 2) : draw(1, 80);
      shape.m = draw(0, 140);
      shape.d = draw(1, 20);
      shape.dv = draw(0, 1) == 0 ? shape.d : draw(1, 34);
      AttentionProblem<T> p(shape, round);
      const auto masked = masks(shape.n, shape.m, round, cells);
      const auto modded = mods(shape.heads, table);
      const NamedMask& mask = masked[static_cast<std::size_t>(draw(0, static_cast<Index>(masked.size()) - 1))];
      const auto& mod = modded[static_cast<std::size_t>(draw(0, static_cast<Index>(modded.size()) - 1))];
      SCOPED_TRACE(shape.text() + ", " + mask.name + ", " + mod.first);
      const ScoreMods both = score_mods(mod.second, mask.mask);
      attention<T>(ctx, p.Q(), p.K(), p.V(), p.out(), both, {}, {p.lse(), p.entropy()});
      const AttentionExpectation<T> expected(p, mod.second, mask.mask);
      expected.compare(p);
      if (::testing::Test::HasFailure()) return;
    }
  });
}

TEST(AttentionProperty, DrawnF32) { draws<float>(16); }
TEST(AttentionProperty, DrawnF64) { draws<double>(5); }

TEST(AttentionProperty, SplitsMergeToTheWhole) {  // of keys; masks that know absolute places are cut with them
  for_each_attention_kernel<float>([](Context& ctx) {
    for (const Index cut : {0, 63, 90, 130}) {
      AttentionShape shape{2, 1, 9, 130, 12, 17};
      AttentionProblem<float> whole(shape, 3), left(shape, 3), right(shape, 3);
      const auto part = [&](auto view, bool first) {
        return first ? view.slice(1, 0, cut) : view.slice(1, cut, 130 - cut);
      };
      const AnyMod mod(soft_cap(2));
      const auto seen = [](Index first) {
        return AnyMask([first](const ScorePosition& at) { return (at.key + first) % 5 != at.query % 5; });
      };
      for (const bool first : {true, false}) {
        auto& half = first ? left : right;
        attention<float>(ctx, half.Q(), part(half.K(), first), part(half.V(), first), half.out(),
                         score_mods(mod, seen(first ? 0 : cut)), {}, {half.lse(), half.entropy()});
      }
      for (Index h = 0; h < 2; ++h)
        for (Index i = 0; i < 9; ++i)
          right.entropy()(h, i) =
              detail::merged_entropy(left.entropy()(h, i), left.lse()(h, i), right.entropy()(h, i), right.lse()(h, i));
      merge_states(ctx, left.out(), left.lse(), right.out(), right.lse());
      AttentionExpectation<float>(whole, mod, seen(0)).compare(right);
    }
  });
}

TEST(AttentionProperty, ManyHeadsOverOneKvHeadAreSplitWithin) {
  Context one, three = Context::with_threads(3);
  AttentionProblem<float> p({130, 1, 1, 4500, 3, 2}, 8), again({130, 1, 1, 4500, 3, 2}, 8);
  attention<float>(one, p.Q(), p.K(), p.V(), p.out(), score_mods(), {}, {p.lse(), p.entropy()});
  attention<float>(three, again.Q(), again.K(), again.V(), again.out(), score_mods(), {}, {again.lse(), {}});
  AttentionExpectation<float>(p, AnyMod(), AnyMask()).compare(p);
  for (Index i = 0; i < p.o.size(); ++i) ASSERT_EQ(p.o[i], again.o[i]);
  EXPECT_GE(one.workspace.capacity(), std::size_t{3 * 130 * 2 * sizeof(float)});  // results of three splits
}

TEST(AttentionProperty, LongContextsOfFewQueriesAreSplitWithin) {
  Context ctx;
  AttentionProblem<float> p({4, 2, 1, 5000, 16, 16}, 8);
  const AnyMask mask(sliding_window(3000, 5));
  attention<float>(ctx, p.Q(), p.K(), p.V(), p.out(), score_mods(mask), {}, {p.lse(), p.entropy()});
  AttentionExpectation<float>(p, AnyMod(), mask).compare(p);
}

template <class T>
void in_lanes() {
  for_each_attention_kernel<T>([](Context& ctx) {
    for (const AttentionShape& shape : {AttentionShape{6, 2, 1, 90, 9, 9}, AttentionShape{6, 2, 45, 80, 9, 9}}) {
      AttentionProblem<T> p(shape, 3);
      const Alibi alibi(6);
      const SoftCap cap = soft_cap(1.5);
      const AnyMask mask(sliding_window(50, 2));
      const Buffer<float> table = random_buffer<float>(6 * 21, 5);
      const RelativeBias<float> bias(MatrixView<const float>(table.data(), 6, 21));
      // A mask before a cap stays a mask.
      attention<T>(ctx, p.Q(), p.K(), p.V(), p.out(), score_mods(mask, alibi, bias, cap), {}, {p.lse(), p.entropy()});
      const AnyMod both([&](auto score, const ScorePosition& at) { return cap(bias(alibi(score, at), at), at); });
      AttentionExpectation<T>(p, both, mask).compare(p);
    }
  });
}
TEST(AttentionProperty, ModsInLanesF32) { in_lanes<float>(); }
TEST(AttentionProperty, ModsInLanesF64) { in_lanes<double>(); }

template <class H>
void halves() {
  for (const AttentionShape& shape :
       {AttentionShape{7, 1, 1, 70, 33, 20}, AttentionShape{3, 1, 1, 70, 33, 20}, AttentionShape{2, 1, 40, 65, 8, 8}}) {
    AttentionProblem<float> p(shape, 4);
    const auto narrow = [](Buffer<float>& wide) {
      Buffer<H> made(wide.size());
      for (Index i = 0; i < wide.size(); ++i) wide[i] = static_cast<float>(made[i] = H(wide[i]));
      return made;
    };
    const Buffer<H> k = narrow(p.k), v = narrow(p.v);
    const View<const H, 3> K(k.data(), {shape.kv_heads, shape.m, shape.d}),
        V(v.data(), {shape.kv_heads, shape.m, shape.dv});
    for_each_attention_kernel<float>([&](Context& ctx) {
      attention<float>(ctx, p.Q(), K, V, p.out(), score_mods(CausalMask{}), {}, {p.lse(), p.entropy()});
      AttentionExpectation<float>(p, AnyMod(), AnyMask(CausalMask{})).compare(p);
      attention<float>(ctx, p.Q(), p.K(), V, p.out(), score_mods(), {}, {p.lse(), p.entropy()});  // one narrow, one not
      AttentionExpectation<float>(p, AnyMod(), AnyMask()).compare(p);
    });
  }
}
TEST(AttentionProperty, StorageBf16) { halves<bf16>(); }
TEST(AttentionProperty, StorageF16) { halves<f16>(); }

/// Kivi's stores the other way round.
template <int Bits>
struct Swapped {
  static constexpr std::string_view name = "swapped";
  template <class Storage>
  auto keys(Index d) const {
    return kv::TokenBlocks<Bits, Storage>(d, 32);
  }
  template <class Storage>
  auto values(Index d) const {
    return kv::ChannelGroups<Bits, Storage>(d, 32);
  }
};

TEST(AttentionProperty, StorageOfEveryKvCodec) {  // against what the cache says that it holds
  for (const char* codec : {"f32", "bf16", "f16", "int8", "int4", "int3", "int2", "swapped4", "swapped3", "swapped2"})
    for (const auto& [heads, d] : {std::pair<Index, Index>{2, 37}, {6, 64}, {8, 37}, {8, 96}, {2, 32}, {40, 64}}) {
      SCOPED_TRACE(codec);
      const AttentionShape shape{heads, 2, 1, 120, d, d};
      AttentionProblem<float> p(shape, 6);
      Context ctx;
      const std::string name = codec;
      kv::AnyKvCache cache = name == "swapped4"   ? kv::KvCache<Swapped<4>>(2, d)
                             : name == "swapped3" ? kv::AnyKvCache(kv::KvCache<Swapped<3>>(2, d))
                             : name == "swapped2" ? kv::AnyKvCache(kv::KvCache<Swapped<2>>(2, d))
                                                  : kv::make_kv_cache(codec, 2, d);
      cache.append(ctx, p.K(), p.V());
      const auto unpack = kv::KvCacheBase::unpack_kernel(ctx);
      for (Index h = 0; h < 2; ++h)
        for (const bool keys : {true, false}) {
          Buffer<float> scratch(120 * d);
          Index stride = 0;
          const float* const tile = keys ? cache.base().key_tile(h, 0, 120, scratch.data(), stride, unpack)
                                         : cache.base().value_tile(h, 0, 120, scratch.data(), stride, unpack);
          for (Index j = 0; j < 120; ++j)
            for (Index c = 0; c < d; ++c) (keys ? p.k : p.v)[(h * 120 + j) * d + c] = tile[j * stride + c];
        }
      const AnyMask mask(sliding_window(70, 3));
      const AnyMod mod{Alibi(heads)};
      cache.attend(ctx, p.Q(), p.out(), score_mods(mod, mask), {}, {p.lse(), p.entropy()});
      AttentionExpectation<float>(p, mod, mask).compare(p);
    }
}

TEST(AttentionProperty, MaskedBlocksAreNotRead) {
  struct Counting {
    View<const float, 3> view;
    mutable Index tokens = 0;
    std::array<Index, 3> extents() const { return view.extents(); }
    TileSource<float> source() const {
      return {this, [](const void* self, Index head, Index begin, Index count, float*, Index& stride) noexcept {
                const auto& all = *static_cast<const Counting*>(self);
                all.tokens += count;
                stride = all.view.stride(1);
                return all.view.data() + head * all.view.stride(0) + begin * all.view.stride(1);
              }};
    }
  };
  Context ctx;
  AttentionProblem<float> p({1, 1, 1024, 1024, 8, 8}, 2);
  Counting keys{p.K()}, values{p.V()};
  attention<float>(ctx, p.Q(), keys, values, p.out(), score_mods(sliding_window(64, 4)));
  EXPECT_EQ(keys.tokens, values.tokens);
  EXPECT_LE(keys.tokens, 16 * 3 * 64);  // of each block of 64 queries: sinks, the tile before and its own
  keys.tokens = 0;
  attention<float>(ctx, p.Q(), keys, values, p.out(), score_mods(CausalMask{}));
  EXPECT_EQ(keys.tokens, 16 * 17 / 2 * 64);
}

TEST(AttentionProperty, DropoutKeepsTheMeanAndRepeats) {
  Context ctx;
  Context threads = Context::with_threads(3);
  AttentionProblem<float> p({2, 2, 70, 200, 8, 8}, 7), q({2, 2, 70, 200, 8, 8}, 7);
  const Dropout dropout(0.25, 11);
  attention<float>(ctx, p.Q(), p.K(), p.V(), p.out(), score_mods(dropout), {}, {p.lse(), {}});
  attention<float>(threads, q.Q(), q.K(), q.V(), q.out(), score_mods(dropout));
  for (Index i = 0; i < p.o.size(); ++i) ASSERT_EQ(p.o[i], q.o[i]);
  // lse is that of all keys; the result is the weighted sum over those kept, divided by 1 - p.
  Index kept = 0;
  for (Index h = 0; h < 2; ++h)
    for (Index i = 0; i < 70; ++i) {
      double sum = 0;
      for (Index j = 0; j < 200; ++j) {
        double score = 0;
        for (Index c = 0; c < 8; ++c)
          score += static_cast<double>(p.Q()(h, i, c)) * static_cast<double>(p.K()(h, j, c));
        if (!dropout.keeps(h, i, j)) continue;
        ++kept;
        sum += std::exp(score / std::sqrt(8.0) - static_cast<double>(p.lse()(h, i))) / 0.75 *
               static_cast<double>(p.V()(h, j, 3));
      }
      EXPECT_NEAR(static_cast<double>(p.out()(h, i, 3)), sum, 1e-5);
    }
  EXPECT_NEAR(static_cast<double>(kept) / (2 * 70 * 200), 0.75, 0.02);
  // Keys of any distance, by any kernel of draws.
  const std::vector<Index> places{0, 1, 31, 32, 33, 70, 200, 1000, 1001, 5000, 5031, 5032};
  for (const DrawRun draw : {&DrawRef::run, DrawKernels::select(ctx, DrawArgs{}).run}) {
    std::vector<float> w(2 * places.size(), 1.0f);
    dropout.weigh_row(
        w.data(), 2, static_cast<Index>(places.size()), {1, 7, 0, 7, 3},
        [&](Index j) { return places[static_cast<std::size_t>(j)]; }, draw);
    for (std::size_t j = 0; j < places.size(); ++j) {
      EXPECT_EQ(w[2 * j], dropout.keeps(1, 7, places[j], 3) ? static_cast<float>(1 / 0.75) : 0.0f);
      EXPECT_EQ(w[2 * j + 1], 1.0f);
    }
  }
}

TEST(AttentionProperty, VarlenIsEachSequenceByItself) {
  const std::vector<Index> queries{0, 5, 5, 40, 41}, keys{3, 9, 9, 60, 130};  // the first and third without queries
  AttentionProblem<float> p({4, 2, 41, 130, 16, 12}, 5), each({4, 2, 41, 130, 16, 12}, 5);
  for (const Index threads : {1, 2}) {
    Context ctx = Context::with_threads(threads);
    attention_varlen<float>(ctx, p.Q(), p.K(), p.V(), queries, keys, p.out(), score_mods(Alibi(4)), {.causal = true},
                            {p.lse(), {}});
    Index q = 0, k = 0;
    for (std::size_t s = 0; s < queries.size(); ++s) {
      const Index n = queries[s] - q, m = keys[s] - k;
      attention<float>(ctx, each.Q().slice(1, q, n), each.K().slice(1, k, m), each.V().slice(1, k, m),
                       each.out().slice(1, q, n), score_mods(Alibi(4)), {.causal = true},
                       {each.lse().slice(1, q, n), {}});
      q = queries[s];
      k = keys[s];
    }
    for (Index i = 0; i < p.o.size(); ++i) ASSERT_EQ(p.o[i], each.o[i]);
    for (Index i = 0; i < p.l.size(); ++i) ASSERT_EQ(p.l[i], each.l[i]);
  }
}

TEST(AttentionProperty, RefusesWhatDoesNotFit) {
  Context ctx;
  AttentionProblem<float> p({4, 2, 3, 5, 8, 6}, 1);
  const auto says = [](auto&& call, const std::string& words) {
    try {
      call();
      ADD_FAILURE() << "expected: " << words;
    } catch (const shape_error& e) {
      EXPECT_NE(std::string(e.what()).find(words), std::string::npos) << e.what();
    }
  };
  const auto none = score_mods();
  says([&] { attention<float>(ctx, p.Q().slice(0, 0, 3), p.K(), p.V(), p.out(), none); }, "3 heads");
  says([&] { attention<float>(ctx, p.Q(), p.K().slice(2, 0, 7), p.V(), p.out(), none); }, "(2, 5, 7)");
  says([&] { attention<float>(ctx, p.Q(), p.K(), p.V(), p.out().slice(2, 0, 5), none); }, "(4, 3, 6)");
  for (const double scale : {std::nan(""), HUGE_VAL, -HUGE_VAL})
    says([&] { attention<float>(ctx, p.Q(), p.K(), p.V(), p.out(), none, {.scale = scale}); }, "the scale is");
  says(
      [&] {
        attention<float>(ctx, p.Q(), p.K(), p.V(), p.out(), none, {}, {{}, p.lse().slice(1, 0, 2)});
      },
      "entropy is 4x3");
  const std::vector<Index> falling{2, 1}, short_of{2, 2}, all{1, 3}, keys{1, 5};
  says([&] { attention_varlen<float>(ctx, p.Q(), p.K(), p.V(), falling, keys, p.out(), none); }, "at 1 after 2");
  says([&] { attention_varlen<float>(ctx, p.Q(), p.K(), p.V(), short_of, keys, p.out(), none); }, "the last 2, for 3");
  says([&] { attention_varlen<float>(ctx, p.Q(), p.K(), p.V(), all, std::vector<Index>{5}, p.out(), none); },
       "2 sequences");
  const Buffer<std::uint8_t> cells(2);
  const BlockMask two(View<const std::uint8_t, 3>(cells.data(), {2, 1, 1}), 8, 8);
  kv::AnyKvCache cache = kv::make_kv_cache("f32", 2, 8);
  says([&] { attention<float>(ctx, p.Q(), p.K(), p.V(), p.out(), score_mods(two)); }, "4 heads with a mask");
  says([&] { attention<float>(ctx, p.Q(), p.K(), p.V(), p.out(), score_mods(Alibi(3))); }, "score-mod for 3");
  Buffer<float> out(4 * 3 * 8);
  const View<float, 3> result(out.data(), {4, 3, 8});
  says([&] { cache.attend(ctx, p.Q(), result, score_mods(Alibi(3))); }, "score-mod for 3");
  says([] { sliding_window(0); }, "sliding_window(0");
  says([] { DocumentMask(std::vector<Index>{0, 4, 3}); }, "boundary 2 is 3");
  says([] { DocumentMask(std::vector<Index>{}); }, "begin with 0");
  says([] { TreeMask(0, std::vector<Index>{-1, 1}); }, "node 1 is 1");
  says([] { TreeMask(0, std::vector<Index>{-2}); }, "node 0 is -2");
  says([] { BlockMask(View<const std::uint8_t, 3>(nullptr, {1, 0, 0}), 0, 16); }, "blocks of 0");
  says([] { soft_cap(0); }, "soft_cap(0)");
  says([] { Alibi(0); }, "0 heads");
  says([] { Dropout(1, 0); }, "Dropout(1)");
  says([] { Dropout(std::nan(""), 0); }, "Dropout(nan");
  says([] { soft_cap(1e300); }, "2^120");
  const Buffer<float> four(4);
  const RelativeBias<float> of_one_head(MatrixView<const float>(four.data(), 1, 3));
  says([&] { attention<float>(ctx, p.Q(), p.K(), p.V(), p.out(), score_mods(of_one_head)); }, "score-mod for 1");
  says([&] { LearnedRelativeBias<float>(MatrixView<const float>(four.data(), 1, 3), View<float, 3>()); }, "1x3 with");
  says([&] { RelativeBias<float>(MatrixView<const float>(four.data(), 1, 4)); }, "2*reach + 1");
}

TEST(AttentionProperty, ForcedKernelsOfModsAreRefusedBeforeAnyRuns) {  // kernels are noexcept
  Context ctx;
  AttentionProblem<float> p({2, 1, 3, 5, 8, 6}, 1);
  ctx.force("map:none");
  EXPECT_THROW(attention<float>(ctx, p.Q(), p.K(), p.V(), p.out(), score_mods(Alibi(2))), unsupported_error);
}

TEST(AttentionProperty, NaNScoresShow) {
  const auto first_key = score_mods(AnyMod([](auto score, const ScorePosition& at) {
    using T = decltype(score);
    return at.key == 0 ? std::numeric_limits<T>::quiet_NaN() : -std::numeric_limits<T>::infinity();
  }));
  for_each_attention_kernel<float>([&](Context& ctx) {
    for (const Index n : {1, 30}) {
      AttentionProblem<float> p({1, 1, n, 70, 8, 8}, 1);
      attention<float>(ctx, p.Q(), p.K(), p.V(), p.out(), first_key, {}, {p.lse(), {}});
      EXPECT_TRUE(std::isnan(p.out()(0, n - 1, 0)));
      EXPECT_TRUE(std::isnan(p.lse()(0, n - 1)));
    }
  });
}

TEST(AttentionProperty, FarPlaces) {
  Context ctx;
  AttentionProblem<float> p({1, 1, 9, 3, 8, 8}, 1);
  const AnyMask widest(sliding_window(std::numeric_limits<Index>::max()));  // queries before the first key see nothing
  attention<float>(ctx, p.Q(), p.K(), p.V(), p.out(), score_mods(widest), {}, {p.lse(), p.entropy()});
  AttentionExpectation<float>(p, AnyMod(), AnyMask(CausalMask{})).compare(p);
  const Buffer<std::uint8_t> cells(1);
  const BlockMask one(View<const std::uint8_t, 3>(cells.data(), {1, 1, 1}), 1, 1);
  EXPECT_EQ(one.block({0, 1, 0, 1, 0, Index{1} << 60, 0, 0}), Seen::none);
  // Distances of places that f32 does not hold.
  constexpr Index far = (Index{1} << 30) + 1;
  const auto mods = score_mods(Alibi(std::vector<double>{1}));
  const TokenPositions places{nullptr, [](const void*, Index, Index token) noexcept { return far + token; }, far + 7};
  detail::ScoreHookState<float, ScoreMods<Alibi>> state(mods, places);
  for (const bool along_rows : {true, false}) {
    std::vector<float> scores(12, 0.0f);
    const Index rs = along_rows ? 1 : 4, ts = along_rows ? 3 : 1;
    state.hook(ctx).change(&state, {0, 1, 0, 3, 0, 4, 0, Seen::all, scores.data(), rs, ts});
    for (Index r = 0; r < 3; ++r)
      for (Index j = 0; j < 4; ++j)
        EXPECT_EQ(scores[static_cast<std::size_t>(r * rs + j * ts)], static_cast<float>(j - 7 - r));
  }
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera::test
