#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <tessera/attention/shared_prefix.hpp>
#include <tessera/core/executor.hpp>
#include <vector>

#include "support/oracle.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

constexpr Index heads = 4, kv_heads = 2, d = 24;

struct Tokens {  // keys and values of some tokens, (kv_heads, m, d)
  Tokens(Index tokens, std::uint64_t seed)
      : m(tokens),
        k(random_buffer<float>(kv_heads * m * d, seed)),
        v(random_buffer<float>(kv_heads * m * d, seed + 1)) {}
  View<const float, 3> K() const { return {k.data(), {kv_heads, m, d}}; }
  View<const float, 3> V() const { return {v.data(), {kv_heads, m, d}}; }
  Index m;
  Buffer<float> k, v;
};

struct Tree {
  std::vector<Tokens> runs;
  std::vector<Index> parents;
  std::vector<Tokens> suffixes;
  std::vector<Index> leaves;
  std::vector<PrefixNode<float>> nodes() const {
    std::vector<PrefixNode<float>> list;
    for (std::size_t p = 0; p < runs.size(); ++p) list.push_back({runs[p].K(), runs[p].V(), parents[p]});
    return list;
  }
  std::vector<SequenceSuffix<float>> own() const {
    std::vector<SequenceSuffix<float>> list;
    for (std::size_t b = 0; b < suffixes.size(); ++b) list.push_back({suffixes[b].K(), suffixes[b].V(), leaves[b]});
    return list;
  }
  Index batch() const { return static_cast<Index>(leaves.size()); }
};

/// What attention over each sequence's own copy of all its tokens gives, sums in double.
void expect_apart(const Tree& tree, View<const float, 4> Q, View<const float, 4> out, View<const float, 3> lse,
                  double scale, const std::string& what) {
  const Index n = Q.extent(2);
  for (Index b = 0; b < tree.batch(); ++b) {
    std::vector<const Tokens*> path{&tree.suffixes[static_cast<std::size_t>(b)]};
    for (Index p = tree.leaves[static_cast<std::size_t>(b)]; p >= 0; p = tree.parents[static_cast<std::size_t>(p)])
      path.insert(path.begin(), &tree.runs[static_cast<std::size_t>(p)]);
    double worst = 0;
    for (Index h = 0; h < heads; ++h)
      for (Index i = 0; i < n; ++i) {
        std::vector<double> sums(d);
        double total = 0;
        for (const Tokens* run : path) {
          const Index end = run == path.back() ? std::clamp<Index>(run->m - n + i + 1, 0, run->m) : run->m;
          for (Index j = 0; j < end; ++j) {
            double dot = 0;
            for (Index c = 0; c < d; ++c) dot += double{Q(b, h, i, c)} * double{run->K()(h / 2, j, c)};
            const double weight = std::exp(dot * scale);
            total += weight;
            for (Index c = 0; c < d; ++c) sums[static_cast<std::size_t>(c)] += weight * double{run->V()(h / 2, j, c)};
          }
        }
        if (total == 0) {
          ASSERT_EQ(lse(b, h, i), -std::numeric_limits<float>::infinity()) << what;
          for (Index c = 0; c < d; ++c) ASSERT_EQ(out(b, h, i, c), 0.0f) << what;
          continue;
        }
        worst = std::max(worst, std::abs(double{lse(b, h, i)} - std::log(total)));
        for (Index c = 0; c < d; ++c)
          worst = std::max(worst, std::abs(double{out(b, h, i, c)} - sums[static_cast<std::size_t>(c)] / total));
      }
    EXPECT_LT(worst, 1e-5) << what << ", sequence " << b;
  }
}

Tree one_prefix(Index batch, Index m) {
  Tree tree{{Tokens(m, 1)}, {-1}, {}, {}};
  for (Index b = 0; b < batch; ++b) {
    tree.suffixes.emplace_back(b % 3 == 1 ? 0 : 2 + b, static_cast<std::uint64_t>(10 + 2 * b));
    tree.leaves.push_back(0);
  }
  return tree;
}

/// A root, an empty node, two branches of which one forks, and a second root; leaves in no order, one inside the tree,
/// one sequence with no prefix and one with nothing at all.
Tree forked() {
  Tree tree{{Tokens(70, 1), Tokens(0, 3), Tokens(33, 5), Tokens(5, 7), Tokens(90, 9), Tokens(12, 11)},
            {-1, 0, 1, 1, 3, -1},
            {},
            {}};
  const std::vector<Index> leaves{4, 2, -1, 5, 4, 0, 2, 3, -1, 4}, tokens{3, 0, 4, 9, 1, 2, 70, 0, 0, 3};
  for (std::size_t b = 0; b < leaves.size(); ++b) {
    tree.suffixes.emplace_back(tokens[b], 20 + 2 * b);
    tree.leaves.push_back(leaves[b]);
  }
  return tree;
}

TEST(SharedPrefix, EqualsAttentionOfEachSequenceByItself) {
  Context one, four = Context::with_threads(4);
  const double scale = 1 / std::sqrt(static_cast<double>(d));
  for (const Index n : {1, 3})
    for (const Tree& tree : {one_prefix(1, 5), one_prefix(5, 130), one_prefix(35, 20), one_prefix(3, 0), forked()}) {
      const Index batch = tree.batch(), size = batch * heads * n * d;
      const auto q = random_buffer<float>(size, 99);
      // (batch, n, heads, d) in memory, as projections leave them
      const View<const float, 4> Q(q.data(), {batch, heads, n, d}, {n * heads * d, d, heads * d, 1});
      Buffer<float> a(size), b(size), lse_a(batch * heads * n), lse_b(batch * heads * n);
      std::fill(a.begin(), a.end(), std::numeric_limits<float>::quiet_NaN());
      const View<float, 4> A(a.data(), {batch, heads, n, d}), B(b.data(), {batch, heads, n, d});
      const View<float, 3> LA(lse_a.data(), {batch, heads, n}), LB(lse_b.data(), {batch, heads, n});
      const auto nodes = tree.nodes();
      const auto own = tree.own();
      const auto run = [&](Context& ctx, const View<float, 4>& out, const View<float, 3>& lse) {
        if (nodes.size() == 1)
          shared_prefix_attention(ctx, Q, nodes[0].K, nodes[0].V, own, out, {.scale = {}, .causal = true}, lse);
        else
          shared_prefix_attention(ctx, Q, nodes, own, out, {.scale = {}, .causal = true}, lse);
      };
      run(one, A, LA);
      run(four, B, LB);
      expect_apart(tree, Q, A, LA, scale, "batch " + std::to_string(batch) + ", n " + std::to_string(n));
      EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin()) && std::equal(lse_a.begin(), lse_a.end(), lse_b.begin()));
      run(one, B, {});
      EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin()));
    }
}

struct Counted {
  View<const float, 3> view;
  mutable Index bytes = 0;
  static const float* tile(const void* state, Index head, Index begin, Index count, float* scratch,
                           Index& stride) noexcept {
    const auto& self = *static_cast<const Counted*>(state);
    self.bytes += count * d * static_cast<Index>(sizeof(float));
    return detail::tile_of_view<float>(&self.view, head, begin, count, scratch, stride);
  }
};

TEST(SharedPrefix, IsReadOnceByEach64RowsOfAllSequencesBelow) {
  Context ctx;
  const Tokens prefix(200, 1), branch(50, 3);
  const Index once = kv_heads * d * static_cast<Index>(sizeof(float));
  for (const Index batch : {1, 4, 16, 32, 33, 64}) {
    const Counted keys{prefix.K()}, values{prefix.V()}, branch_keys{branch.K()}, branch_values{branch.V()};
    const std::vector<PrefixNode<float>> nodes{
        {prefix.K(), prefix.V(), -1, {&keys, &Counted::tile}, {&values, &Counted::tile}},
        {branch.K(), branch.V(), 0, {&branch_keys, &Counted::tile}, {&branch_values, &Counted::tile}}};
    std::vector<SequenceSuffix<float>> own(static_cast<std::size_t>(batch));
    for (Index b = 0; b < batch; b += 2) own[static_cast<std::size_t>(b)].leaf = 1;
    const auto q = random_buffer<float>(batch * heads * d, 7);
    Buffer<float> out(q.size());
    shared_prefix_attention(ctx, View<const float, 4>(q.data(), {batch, heads, 1, d}), nodes, own,
                            View<float, 4>(out.data(), {batch, heads, 1, d}));
    const Index passes = (batch * 2 + 63) / 64;  // two heads share a kv head: 32 sequences to a pass
    EXPECT_EQ(passes, prefix_passes(batch, 1, 2));
    EXPECT_EQ(keys.bytes, passes * once * prefix.m) << batch;
    EXPECT_EQ(values.bytes, passes * once * prefix.m) << batch;
    EXPECT_EQ(branch_keys.bytes, prefix_passes((batch + 1) / 2, 1, 2) * once * branch.m) << batch;
    EXPECT_EQ(branch_values.bytes, branch_keys.bytes);
  }
}

TEST(SharedPrefix, MistakesNameBothOperands) {
  Context ctx;
  const Tokens prefix(8, 1);
  Buffer<float> q(2 * heads * d), out(2 * heads * d);
  const View<const float, 4> Q(q.data(), {2, heads, 1, d});
  const View<float, 4> O(out.data(), {2, heads, 1, d});
  const auto error = [&](std::vector<PrefixNode<float>> nodes, std::vector<SequenceSuffix<float>> own,
                         const View<float, 4>& to, const View<float, 3>& lse = {}) -> std::string {
    try {
      shared_prefix_attention(ctx, Q, nodes, own, to, {}, lse);
    } catch (const shape_error& e) {
      return e.what();
    }
    return "nothing";
  };
  const PrefixNode<float> root{prefix.K(), prefix.V()};
  const auto expect = [](const std::string& got, const char* part) {
    EXPECT_NE(got.find(part), std::string::npos) << got;
  };
  expect(error({root}, {{}, {}}, O), "nothing");
  expect(error({root}, {{}}, O), "queries (2, 4, 1, 24): 1 suffixes; expected one for each of 2");
  expect(error({root}, {{}, {{}, {}, 1}}, O), "the leaf of sequence 1 is 1; expected one of 1 nodes");
  expect(error({{prefix.K(), prefix.V(), 0}}, {{}, {}}, O), "the parent of node 0 is 0");
  expect(error({{prefix.K(), prefix.V().slice(1, 0, 7)}}, {{}, {}}, O), "keys (2, 8, 24) and values (2, 7, 24)");
  expect(error({{prefix.K(), prefix.V(), -1, {&q, &Counted::tile}}}, {{}, {}}, O), "keys but none of values");
  expect(error({root}, {{}, {prefix.K().slice(2, 0, 8), prefix.V().slice(2, 0, 8)}}, O), "suffix 1 of keys (2, 8, 8)");
  expect(error({root}, {{}, {}}, O.slice(3, 0, 5)), "the destination is (2, 4, 1, 5)");
  expect(error({root}, {{}, {}}, O, View<float, 3>(out.data(), {2, 4, 2})), "the destination is (2, 4, 2)");
  const Buffer<float> three(3 * 8 * d);
  const View<const float, 3> K3(three.data(), {3, 8, d});
  expect(error({{K3, K3}}, {{}, {}}, O), "4 heads are not a multiple of 3 kv heads");
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera::test
