/// What an optimizer sees of a model: named blocks of contiguous numbers.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// What masks decide by.
struct ParameterInfo {
  std::string name;
  Index rows = 0, cols = 0;
  Index size() const { return rows * cols; }
};

/// One block, of parameters or of their gradient; does not own its memory.
template <class T>
struct Parameter : ParameterInfo {
  T* data = nullptr;

  /// A vector, one row.
  Parameter(std::string name_, std::span<T> values)
      : ParameterInfo{std::move(name_), 1, static_cast<Index>(values.size())}, data(values.data()) {}

  /// A matrix. Throws shape_error unless it is row-major without gaps.
  Parameter(std::string name_, MatrixView<T> values)
      : ParameterInfo{std::move(name_), values.rows(), values.cols()}, data(values.data()) {
    if (!values.contiguous())
      throw shape_error(tessera::detail::concat(
          "tessera: parameter '", name, "' (", tessera::detail::shape_text(rows, cols), ") has strides ",
          values.row_stride(), ", ", values.col_stride(), "; expected a row-major matrix without gaps"));
  }

  std::span<T> values() const { return {data, static_cast<std::size_t>(size())}; }
  VectorView<T> view() const { return {data, size()}; }
};

/// All blocks of a model, in an order that stays the same; gradients are given in the same order and sizes.
template <class T>
using Parameters = std::vector<Parameter<T>>;

/// Mask: every block.
struct everything {
  bool operator()(const ParameterInfo&) const { return true; }
};

/// Mask: blocks of more than one row and column, so no gains and biases (the usual choice for weight decay).
struct matrices_only {
  bool operator()(const ParameterInfo& p) const { return p.rows > 1 && p.cols > 1; }
};

namespace detail {

using tessera::detail::concat;

/// What running averages keep of the past; throws unsupported_error naming it where that is not in [0, 1), or [0, 1]
/// where all may be kept.
inline double checked_decay(std::string_view who, std::string_view what, double value, bool all = false) {
  if (!(value >= 0 && (value < 1 || (all && value == 1))))
    throw unsupported_error(concat("tessera: ", who, ": ", what, " = ", value, "; expected 0 or more and ",
                                   all ? "at most 1" : "less than 1"));
  return value;
}
/// What starts sums of squares or keeps divisors from 0; throws unsupported_error naming it where that is below 0 or
/// NaN.
inline double checked_least(std::string_view who, std::string_view what, double value) {
  if (!(value >= 0))
    throw unsupported_error(concat("tessera: ", who, ": ", what, " = ", value, "; expected 0 or more"));
  return value;
}
inline double checked_positive(std::string_view who, std::string_view what, double value) {
  if (!(value > 0))
    throw unsupported_error(concat("tessera: ", who, ": ", what, " = ", value, "; expected more than 0"));
  return value;
}
/// All that is so, of all that options have of them.
template <class Options>
const Options& checked_options(std::string_view who, const Options& o) {
  if constexpr (requires { o.b1; }) checked_decay(who, "b1", o.b1);
  if constexpr (requires { o.b2; }) checked_decay(who, "b2", o.b2);
  if constexpr (requires { o.b3; }) checked_decay(who, "b3", o.b3);
  if constexpr (requires { o.decay; }) checked_decay(who, "decay", o.decay);
  if constexpr (requires { o.momentum; }) checked_decay(who, "momentum", o.momentum);
  if constexpr (requires { o.eps; }) checked_least(who, "eps", o.eps);
  if constexpr (requires { o.eps_root; }) checked_least(who, "eps_root", o.eps_root);
  if constexpr (requires { o.initial; }) checked_least(who, "initial", o.initial);
  return o;
}

template <class A, class B>
void check_same_blocks(const std::vector<A>& expected, const char* expected_what, const std::vector<B>& got,
                       const char* got_what) {
  if (expected.size() != got.size())
    throw shape_error(
        concat("tessera: ", got.size(), " blocks of ", got_what, ", but ", expected.size(), " of ", expected_what));
  for (std::size_t i = 0; i < got.size(); ++i)
    if (expected[i].size() != got[i].size() || expected[i].name != got[i].name)
      throw shape_error(concat("tessera: block ", i, " of ", got_what, " is '", got[i].name, "' with ", got[i].size(),
                               " elements, of ", expected_what, " '", expected[i].name, "' with ", expected[i].size()));
    else if (expected[i].rows != got[i].rows && got[i].rows != 1)  // one row: the same numbers in the same order
      throw shape_error(concat("tessera: block ", i, " of ", got_what, ", '", got[i].name, "', is (",
                               tessera::detail::shape_text(got[i].rows, got[i].cols), "), of ", expected_what, " (",
                               tessera::detail::shape_text(expected[i].rows, expected[i].cols), ")"));
}

/// Of the parameters that a state was made for, also where sizes are the same: states may go by rows and columns.
template <class A, class B>
void check_state_of(const std::vector<A>& state_blocks, const std::vector<B>& params) {
  check_same_blocks(state_blocks, "optimizer state", params, "parameters");
  for (std::size_t i = 0; i < params.size(); ++i)
    if (params[i].rows != state_blocks[i].rows)
      throw shape_error(concat(
          "tessera: parameter '", params[i].name, "' is (", tessera::detail::shape_text(params[i].rows, params[i].cols),
          "), in the optimizer state (", tessera::detail::shape_text(state_blocks[i].rows, state_blocks[i].cols), ")"));
}

template <class T>
void check_memory(const Parameters<T>& blocks, const char* what) {
  for (const auto& block : blocks)
    if (block.data == nullptr && block.size() > 0)
      throw shape_error(concat("tessera: the ", what, " '", block.name, "' (",
                               tessera::detail::shape_text(block.rows, block.cols), ") has no memory; expected ",
                               block.size(), " elements"));
}

}  // namespace detail
}  // namespace tessera::inline TESSERA_ABI::optim
