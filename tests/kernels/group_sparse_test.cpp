#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <initializer_list>
#include <set>
#include <string>
#include <tessera/core/rng.hpp>
#include <tessera/quant/group_sparse.hpp>
#include <utility>
#include <vector>

#include "support/oracle.hpp"
#include "support/sparse_patterns.hpp"

namespace tessera {
namespace TESSERA_TEST_FILE {

/// The groups that held(row, group) wants, with random codes.
template <class F>
GroupSparse matrix_of(Index M, Index K, std::uint64_t seed, F&& held_at) {
  const Philox draws(seed);
  std::vector<std::uint16_t> columns;
  Buffer<std::int32_t> begin(M + 1);
  for (Index i = 0; i < M; ++i) {
    for (Index g = 0; g < (K + 15) / 16; ++g)
      if (held_at(i, g)) columns.push_back(static_cast<std::uint16_t>(g));
    begin[i + 1] = static_cast<std::int32_t>(columns.size());
  }
  const auto count = static_cast<Index>(columns.size());
  Buffer<std::uint16_t> held(count);
  Buffer<SparseGroup> groups(count);
  std::uint64_t at = 0;
  for (Index e = 0; e < count; ++e) {
    held[e] = columns[static_cast<std::size_t>(e)];
    groups[e].d = f16(draws.uniform(at++));
    groups[e].m = f16(-8 * draws.uniform(at++));
    for (auto& q : groups[e].qs) q = static_cast<std::uint8_t>(draws.bits(at++));
  }
  return GroupSparse(K, std::move(begin), std::move(held), std::move(groups));
}

/// Rows of very different numbers of groups, some empty.
GroupSparse random_matrix(Index M, Index K, std::uint64_t seed) {
  const Philox draws(seed + 100);
  return matrix_of(M, K, seed, [&](Index i, Index g) {
    return draws.uniform(static_cast<std::uint64_t>(i * K + g)) < (i % 3 == 0 ? 0.9f : i % 3 == 1 ? 0.3f : 0.0f);
  });
}

/// The groups of a pattern that have entries.
GroupSparse matrix_of(const Coo<float>& list) {
  std::set<std::pair<Index, Index>> hit;
  for (std::size_t e = 0; e < list.row.size(); ++e) hit.emplace(list.row[e], list.col[e] / 16);
  return matrix_of(list.rows, list.cols, 4, [&](Index i, Index g) { return hit.contains({i, g}); });
}

void expect_products(Context& ctx, const GroupSparse& W, std::initializer_list<Index> columns_of) {
  const Index M = W.rows(), K = W.cols();
  Context threads = Context::with_threads(2), plain;
  threads.force(ctx.forced("group_sparse"));
  plain.force("group_sparse:ref");
  Buffer<float> eye(K * K), dense(M * K);
  for (Index k = 0; k < K; ++k) eye[k * K + k] = 1;
  W.apply(plain, Op::none, 1, MatrixView<const float>(eye.data(), K, K), 0, MatrixView<float>(dense.data(), M, K));
  for (const Index N : columns_of)
    for (const bool columns : {false, true}) {
      SCOPED_TRACE(detail::concat(M, "x", K, "x", N));
      const MatrixView<const float> D(dense.data(), M, K);
      const auto x = test::random_buffer<float>(K * N, 2), y = test::random_buffer<float>(M * N, 3);
      const auto view_of = [&](const Buffer<float>& b, Index rows) {
        return columns ? MatrixView<const float>(b.data(), {rows, N}, {1, rows})
                       : MatrixView<const float>(b.data(), rows, N);
      };
      const auto mutable_view = [&](Buffer<float>& b, Index rows) {
        return columns ? MatrixView<float>(b.data(), {rows, N}, {1, rows}) : MatrixView<float>(b.data(), rows, N);
      };
      Buffer<float> Y(M * N), Z = x;
      for (auto& v : Y) v = std::nanf("");
      Buffer<float> T = Y;
      W.apply(ctx, Op::none, 0.5f, view_of(x, K), 0, mutable_view(Y, M));
      W.apply(threads, Op::none, 0.5f, view_of(x, K), 0, mutable_view(T, M));
      EXPECT_TRUE(std::equal(Y.begin(), Y.end(), T.begin()));
      test::expect_product<float>(0.5f, D, view_of(x, K), 0.0f, view_of(T, M), view_of(Y, M));
      W.apply(ctx, Op::none, 1, view_of(x, K), -1, mutable_view(T, M));
      test::expect_product<float>(1.0f, D, view_of(x, K), -1.0f, view_of(Y, M), view_of(T, M));
      W.apply(ctx, Op::transpose, 2, view_of(y, M), 1, mutable_view(Z, K));
      test::expect_product<float>(2.0f, D.transposed(), view_of(y, M), 1.0f, view_of(x, K), view_of(Z, K));
    }
}

TEST(GroupSparseKernels, AllMultiplyAsTheDecodedMatrix) {
  for (const auto& kernel : GroupSparseKernels::entries<GroupSparseArgs>()) {
    if (!active_isa().has(kernel.isa)) {
      std::printf("[          ] %s: needs %s\n", std::string(kernel.name).c_str(),
                  std::string(isa_name(kernel.isa)).c_str());
      continue;
    }
    SCOPED_TRACE(std::string(kernel.name));
    Context ctx;
    ctx.force(kernel.name);
    for (const auto& [M, K] : {std::pair<Index, Index>{1, 5}, {7, 16}, {40, 100}, {9, 333}, {150, 700}, {0, 4}, {3, 0}})
      expect_products(ctx, random_matrix(M, K, 1), {0, 1, 2, 3, 8, 9, 17});
    for (const auto& [name, list] : test::sparse_patterns<float>()) {
      SCOPED_TRACE(name);
      expect_products(ctx, matrix_of(list), {1, 9});
    }
  }
}

}  // namespace
}  // namespace tessera
