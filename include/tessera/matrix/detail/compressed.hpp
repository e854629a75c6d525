/// What compressed sparse rows and columns check before they are trusted.
#pragma once

#include <limits>
#include <span>

#include <tessera/kernels/spmm/args.hpp>

namespace tessera::inline TESSERA_ABI {

/// Of arrays that are known to be sound: a constructor that takes it checks nothing.
struct trusted_t {};
inline constexpr trusted_t trusted{};

namespace detail {

/// How messages call the parts of a compressed matrix.
struct CompressedNames {
  const char *type, *starts, *indices, *line;
};
inline constexpr CompressedNames by_rows{"Csr", "row_ptr", "col_idx", "row"},
    by_columns{"Csc", "col_ptr", "row_idx", "column"};

/// Throws format_error unless `starts` (lines + 1) ascends from 0 to the number of `indices`, which is that of the
/// values, and those of a line ascend strictly in [0, width). O(lines + nonzeros).
template <SparseIndex I>
void check_compressed(const CompressedNames& names, Index rows, Index cols, Index lines, Index width,
                      std::span<const I> starts, std::span<const I> indices, std::size_t values) {
  const auto refuse = [&](const auto&... what) {
    throw format_error(concat("tessera: ", names.type, ' ', shape_text(rows, cols), ": ", what...));
  };
  constexpr Index most = static_cast<Index>(std::numeric_limits<I>::max());
  if (rows < 0 || cols < 0) refuse("expected sizes of 0 or more");
  if (width > 0 && width - 1 > most) refuse(width, " do not fit ", names.indices, ", which counts to ", most);
  if (indices.size() != values) refuse(names.indices, " has ", indices.size(), " entries, values has ", values);
  if (values > static_cast<std::size_t>(most))
    refuse(values, " nonzeros do not fit ", names.starts, ", which counts to ", most);
  if (starts.empty() || static_cast<Index>(starts.size() - 1) != lines)
    refuse(names.starts, " has ", starts.size(), " entries; expected one a ", names.line, " and one more");
  if (starts[0] != 0) refuse(names.starts, "[0] is ", starts[0], "; expected 0");
  for (std::size_t i = 0; i + 1 < starts.size(); ++i)
    if (starts[i + 1] < starts[i])
      refuse(names.starts, " falls from ", starts[i], " to ", starts[i + 1], " at ", names.line, ' ', i);
  if (static_cast<std::size_t>(starts.back()) != values)
    refuse(names.starts, " ends at ", starts.back(), "; there are ", values, " nonzeros");
  for (std::size_t i = 0; i + 1 < starts.size(); ++i)
    for (auto e = static_cast<std::size_t>(starts[i]); e < static_cast<std::size_t>(starts[i + 1]); ++e) {
      if (indices[e] < 0 || static_cast<Index>(indices[e]) >= width)
        refuse(names.indices, '[', e, "] of ", names.line, ' ', i, " is ", indices[e], "; expected 0 to ", width - 1);
      if (e > static_cast<std::size_t>(starts[i]) && indices[e] <= indices[e - 1])
        refuse(names.indices, " goes from ", indices[e - 1], " to ", indices[e], " in ", names.line, ' ', i,
               "; expected ascending entries without repetition");
    }
}

/// Throws format_error for a count that with one more cannot be held.
inline void check_starts(const char* what, Index count) {
  if (count == std::numeric_limits<Index>::max())
    throw format_error(concat("tessera: ", what, ": ", count, " rows or columns; expected fewer"));
}

template <class I>
I checked_count(const char* what, Index count, const char* of = "nonzeros") {
  if (count > static_cast<Index>(std::numeric_limits<I>::max()))
    throw format_error(concat("tessera: ", what, ": ", count, " ", of, " do not fit an index that counts to ",
                              std::numeric_limits<I>::max()));
  return static_cast<I>(count);
}

}  // namespace detail
}  // namespace tessera::inline TESSERA_ABI
