// What forks share is held once, and goes with the last of them.
#include <gtest/gtest.h>

#include <set>
#include <utility>
#include <vector>

#include "kv/memory.hpp"
#include "kv/support.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

constexpr Index d = 4, block = 16;

struct CountedRows : PlainRows<float, Contiguous> {
  using Base = PlainRows<float, Contiguous>;
  explicit CountedRows(Index channels) : Base(channels) { ++live; }
  CountedRows(const CountedRows& other) : Base(other) { ++live; }
  CountedRows& operator=(const CountedRows&) = default;
  ~CountedRows() { --live; }
  inline static Index live = 0;
};
using Table = PagedRows<CountedRows, block>;
Table empty_table() { return Table(CountedRows(d), d); }

/// Blocks that some table names; a table has an empty one beside them.
Index named(const std::vector<Table>& tables) {
  std::set<const float*> all;
  for (const Table& one : tables)
    for (Index t = 0; t < one.size(); t += block) {
      Index stride = 0;
      all.insert(one.tile(t, 1, nullptr, stride, nullptr));
    }
  return static_cast<Index>(all.size());
}
Index in_use(const std::vector<Table>& tables) { return CountedRows::live - static_cast<Index>(tables.size()); }

TEST(Forks, ABlockIsThereAsLongAsATableNamesIt) {
  const Philox draws(5);
  std::uint64_t drawn = 0;
  const auto below = [&](Index n) { return static_cast<Index>(draws.below(drawn++, static_cast<std::uint64_t>(n))); };
  const Buffer<float> rows = random_buffer<float>(40 * d, 1);
  std::vector<Table> tables{empty_table()};
  for (int call = 0; call < 4000; ++call) {
    const auto i = static_cast<std::size_t>(below(static_cast<Index>(tables.size())));
    const Index what = below(100), n = tables[i].size();
    if (what < 50 && n < 400) {
      tables[i].append(rows.data(), 1 + below(40), d);
    } else if (what < 65) {
      tables[i].truncate(below(n + 1));
    } else if (what < 75) {
      std::vector<Index> kept;
      for (Index t = 0; t < n; ++t)
        if (t < n / 2 || below(3) > 0) kept.push_back(t);
      tables[i].retain(kept);
    } else if (what < 88 && tables.size() < 12) {
      Table fork = tables[i];
      tables.push_back(std::move(fork));
    } else if (what < 99 && tables.size() > 1) {
      std::swap(tables[i], tables.back());
      tables.pop_back();
    } else {
      tables.assign(1, empty_table());
    }
    ASSERT_EQ(in_use(tables), named(tables)) << call;
  }
  tables.clear();
  EXPECT_EQ(CountedRows::live, 0);
}

TEST(Forks, ASharedPrefixOfBlocksGoesWithItsLastFork) {
  const Buffer<float> rows = random_buffer<float>(20 * block * d, 2);
  for (const std::size_t last : {std::size_t{0}, std::size_t{2}, std::size_t{4}}) {  // the original, or some fork
    std::vector<Table> tables{empty_table()};
    tables[0].append(rows.data(), 20 * block, d);
    while (tables.size() < 5) tables.push_back(Table(tables.back()));
    for (Table& one : tables) one.append(rows.data(), 1, d);
    EXPECT_EQ(in_use(tables), 20 + 5);
    std::swap(tables[0], tables[last]);
    for (Index left = 5; left > 0; --left) {
      EXPECT_EQ(in_use(tables), 20 + left);
      for (Index t = 0; t < 20 * block; ++t) {
        Index stride = 0;
        ASSERT_EQ(*tables[0].tile(t, 1, nullptr, stride, nullptr), rows[t * d]);
      }
      tables.pop_back();
    }
    EXPECT_EQ(CountedRows::live, 0);
  }
}

#if defined(__linux__)
TEST(Forks, ASharedPrefixOfPagesGoesWithItsLastFork) {
  const std::size_t before = frozen_bytes(), prefix = 64 * page();
  const Index files = open_files(), numbers = static_cast<Index>(prefix / sizeof(float));
  for (const std::size_t last : {std::size_t{0}, std::size_t{2}, std::size_t{4}}) {
    std::vector<Virtual::Array<float>> arrays(1);
    arrays[0].resize(numbers);
    for (Index i = 0; i < numbers; ++i) arrays[0][i] = static_cast<float>(i % 4099);
    while (arrays.size() < 5) {
      const Virtual::Fork sharing;
      Virtual::Array<float> fork = arrays.back();
      arrays.push_back(std::move(fork));
    }
    for (auto& one : arrays) {
      one.resize(numbers + 1);
      one[numbers] = 1;
      one[0] = -1;
    }
    std::swap(arrays[0], arrays[last]);
    for (; !arrays.empty(); arrays.pop_back()) {
      EXPECT_EQ(frozen_bytes(), before + prefix) << arrays.size();
      for (Index i = 1; i < numbers; i += 100) ASSERT_EQ(std::as_const(arrays)[0][i], static_cast<float>(i % 4099));
    }
    EXPECT_EQ(frozen_bytes(), before);
    EXPECT_EQ(open_files(), files);
  }
}

/// At random: forks of forks, that grow, shrink and write.
TEST(Forks, PagesAreInUseAsLongAsSomeArrayHasThem) {
  const std::size_t before = frozen_bytes();
  const Index files = open_files();
  const Philox draws(6);
  std::uint64_t drawn = 0;
  const auto below = [&](std::size_t n) { return static_cast<Index>(draws.below(drawn++, n)); };
  {
    std::vector<Virtual::Array<float>> arrays(1);
    std::vector<std::vector<float>> wanted(1);
    for (int call = 0; call < 2000; ++call) {
      const auto i = static_cast<std::size_t>(below(arrays.size()));
      const Index what = below(100), n = arrays[i].size();
      if (what < 50) {
        const Index more = n + below(n < 20000 ? 3000 : 1);
        arrays[i].resize(more);
        for (Index t = n; t < more; ++t) arrays[i][t] = static_cast<float>(call);
        wanted[i].resize(static_cast<std::size_t>(more), static_cast<float>(call));
      } else if (what < 60) {
        const Index fewer = below(static_cast<std::size_t>(n) + 1);
        arrays[i].resize(fewer);
        wanted[i].resize(static_cast<std::size_t>(fewer));
        arrays[i].fit();
      } else if (what < 75 && n > 0) {
        const Index at = below(static_cast<std::size_t>(n));
        arrays[i][at] = wanted[i][static_cast<std::size_t>(at)] = -static_cast<float>(call);
      } else if (what < 88 && arrays.size() < 10) {
        const Virtual::Fork sharing;
        Virtual::Array<float> fork = arrays[i];
        arrays.push_back(std::move(fork));
        wanted.push_back(std::vector<float>(wanted[i]));
      } else if (arrays.size() > 1) {
        std::swap(arrays[i], arrays.back());
        std::swap(wanted[i], wanted.back());
        arrays.pop_back();
        wanted.pop_back();
      }
      if (call % 50 != 0) continue;
      std::size_t most = before;
      for (std::size_t a = 0; a < arrays.size(); ++a) {
        most += arrays[a].bytes();
        ASSERT_EQ(arrays[a].size(), static_cast<Index>(wanted[a].size()));
        for (Index t = 0; t < arrays[a].size(); ++t)
          ASSERT_EQ(std::as_const(arrays)[a][t], wanted[a][static_cast<std::size_t>(t)]);
      }
      ASSERT_LE(frozen_bytes(), most) << call;
    }
  }
  EXPECT_EQ(frozen_bytes(), before);
  EXPECT_EQ(open_files(), files);
}
#endif

}  // namespace
}  // namespace tessera::test
