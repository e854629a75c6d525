/// What a unit finds in a type: its closed forms, and what its rules make. Each unit has functions of its own, for of
/// equal ones a linker keeps one.
#pragma once

#include <string>
#include <typeinfo>
#include <utility>
#include <vector>

#include <tessera/matrix/any.hpp>

struct Meaning {
  std::string type;
  unsigned forms = 0;
  std::string made;  // types of the inverse, A⁺, exp A, √A, Aᵀ and AA
  bool operator==(const Meaning&) const = default;
};
using Meanings = std::vector<Meaning>;

// A type and the header that brings it, by unit.
#define MEANINGS_OF_DENSE Dense<double>, DenseView<double>, Dense<bf16>, LuInverse<double>, Transposed<Dense<double>>
#define MEANINGS_OF_LEAVES                                                                                  \
  Diagonal<double>, Permutation<double>, Identity<double>, Zero<double>, Banded<double>, Circulant<double>, \
      Hadamard<double>, Range<double>, Monarch<double>, MonarchView<double>
#define MEANINGS_OF_LOW_RANK                                                                        \
  LowRank<Dense<double>, Dense<double>>, Sum<Dense<double>, LowRank<Dense<double>, Dense<double>>>, \
      Sum<Diagonal<double>, LowRank<Dense<double>, Dense<double>>>
#define MEANINGS_OF_COMPOSED                                                                         \
  BlockDiagonal<Dense<double>>, Kronecker<Dense<double>, Dense<double>>, KroneckerOf<Dense<double>>, \
      KroneckerSum<Dense<double>, Dense<double>>, BlockDiagonal<AnyOperator<double>>

Meanings of_dense(), of_leaves(), of_low_rank(), of_composed(), of_all();

namespace {

template <class A>
Meaning meaning() {
  using namespace tessera;
  Meaning m{typeid(A).name(), detail::any_forms<A>, ""};
  const auto made = [&](const std::type_info& type) { m.made += std::string(type.name()) + ' '; };
  if constexpr (detail::invertible<A>()) made(typeid(decltype(detail::invert_held(std::declval<A>()))));
  if constexpr (requires(const A& a) { pseudo_inverted(a); })
    made(typeid(decltype(pseudo_inverted(std::declval<A>()))));
  if constexpr (requires(const A& a) { exponential(a); }) made(typeid(decltype(exponential(std::declval<A>()))));
  if constexpr (requires(const A& a) { square_root(a); }) made(typeid(decltype(square_root(std::declval<A>()))));
  made(typeid(decltype(transpose(std::declval<A>()))));
  made(typeid(decltype(std::declval<A>() * std::declval<A>())));
  return m;
}
template <class... As>
Meanings meanings() {
  return {meaning<As>()...};
}

}  // namespace
