/// Sparse matrices of every kind the sparse types are tested with, as lists of entries.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <support/oracle.hpp>
#include <tessera/io/coo.hpp>

namespace tessera::test {

/// Entries (i, j) where keep(i, j), with values that are none of them zero.
template <class T, class Keep>
Coo<T> filled(Index rows, Index cols, Keep&& keep) {
  Coo<T> list;
  list.rows = rows;
  list.cols = cols;
  const Philox draws(71);
  for (Index i = 0; i < rows; ++i)
    for (Index j = 0; j < cols; ++j)
      if (keep(i, j)) {
        list.row.push_back(i);
        list.col.push_back(j);
        const auto k = static_cast<std::uint64_t>(i * cols + j);
        list.value.push_back(static_cast<T>(static_cast<float>(1 + draws.below(k, 100)) *
                                            (draws.below(k + (1ULL << 40), 2) == 0 ? 1.0f : -1.0f)));
      }
  return list;
}

/// `density` of all entries, chosen at random.
template <class T>
Coo<T> scattered(Index rows, Index cols, double density, std::uint64_t seed = 72) {
  const Philox draws(seed);
  return filled<T>(rows, cols,
                   [&](Index i, Index j) { return draws.uniform(static_cast<std::uint64_t>(i * cols + j)) < density; });
}

/// The same matrix, each entry listed as two that add up to it, from the last to the first.
template <class T>
Coo<T> twice(const Coo<T>& list) {
  Coo<T> split{list.rows, list.cols, {}, {}, {}, list.symmetry};
  for (std::size_t part = 0; part < 2; ++part)
    for (std::size_t k = list.value.size(); k-- > 0;) {
      const auto value = static_cast<int>(static_cast<float>(list.value[k]));
      split.row.push_back(list.row[k]);
      split.col.push_back(list.col[k]);
      split.value.push_back(static_cast<T>(static_cast<float>(part == 0 ? value / 2 : value - value / 2)));
    }
  return split;
}

/// Name and entries of each pattern.
template <class T>
std::vector<std::pair<std::string, Coo<T>>> sparse_patterns() {
  const Philox draws(73);
  const auto p = [&](Index k) { return draws.uniform(static_cast<std::uint64_t>(k)); };
  std::vector<std::pair<std::string, Coo<T>>> all;
  const auto add = [&](const char* name, Coo<T> list) { all.emplace_back(name, std::move(list)); };
  add("none", filled<T>(0, 0, [](Index, Index) { return true; }));
  add("no rows", filled<T>(0, 7, [](Index, Index) { return true; }));
  add("no columns", filled<T>(5, 0, [](Index, Index) { return true; }));
  add("no entries", filled<T>(9, 11, [](Index, Index) { return false; }));
  add("one", filled<T>(1, 1, [](Index, Index) { return true; }));
  add("empty rows", filled<T>(40, 33, [&](Index i, Index j) { return i % 3 == 1 && p(i * 33 + j) < 0.3; }));
  add("one dense row", filled<T>(35, 150, [&](Index i, Index j) { return i == 17 || p(i * 150 + j) < 0.02; }));
  add("one dense column", filled<T>(130, 20, [&](Index i, Index j) { return j == 6 || p(i * 20 + j) < 0.03; }));
  add("diagonal", filled<T>(65, 65, [](Index i, Index j) { return i == j; }));
  add("banded", filled<T>(70, 70, [](Index i, Index j) { return j - i <= 2 && i - j <= 3; }));
  add("power law", filled<T>(90, 90, [&](Index i, Index j) {
        return p(i * 90 + j) < 6.0 / static_cast<double>(1 + (i * 37 + 11) % 90);
      }));
  add("permuted", filled<T>(64, 64, [](Index i, Index j) { return j == (i * 27 + 5) % 64 || j == (i * 5 + 1) % 64; }));
  add("dense", filled<T>(19, 37, [](Index, Index) { return true; }));
  add("half", scattered<T>(100, 130, 0.5));
  add("tenth", scattered<T>(70, 300, 0.1));
  add("hypersparse", scattered<T>(500, 400, 0.0002));
  add("duplicates", twice(scattered<T>(60, 50, 0.2)));
  return all;
}

}  // namespace tessera::test
