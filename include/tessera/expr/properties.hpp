/// What is known of an operator by its type: symmetric, positive semidefinite, orthogonal, triangular; and how that
/// passes through expressions:
///   Aᵀ: lower <-> upper, the rest stays      sA: symmetric, triangular stay (psd and orthogonal depend on s)
///   A + B: what both are, but orthogonal     AB: triangular as both, orthogonal if both
///   A⁻¹: as A, for a triangular inverse is triangular and that of a definite matrix definite
#pragma once

#include <string>
#include <type_traits>

#include <tessera/expr/leaf.hpp>

namespace tessera::inline TESSERA_ABI {

/// A set of properties. `psd` contains symmetric, `diagonal` contains symmetric, lower and upper.
enum class Property : unsigned {
  none = 0,
  symmetric = 1,
  psd = 2 | 1,     // symmetric, xᵀAx >= 0
  orthogonal = 4,  // square, AᵀA = I
  lower = 8,       // A(i,j) = 0 for j > i
  upper = 16,      // A(i,j) = 0 for j < i
  diagonal = 8 | 16 | 1,
  identity = 8 | 16 | 4 | 2 | 1
};
constexpr Property operator|(Property a, Property b) { return Property(unsigned(a) | unsigned(b)); }
constexpr Property operator&(Property a, Property b) { return Property(unsigned(a) & unsigned(b)); }
constexpr Property operator-(Property a, Property b) { return Property(unsigned(a) & ~unsigned(b)); }
/// All of `what` is in `set`.
constexpr bool has(Property set, Property what) { return (set & what) == what; }

namespace detail {

/// What follows from the others: lower and symmetric is diagonal, and so on.
constexpr Property closed(Property p) {
  if (has(p, Property::lower | Property::upper)) return p | Property::diagonal;
  if (has(p, Property::symmetric) && (has(p, Property::lower) || has(p, Property::upper)))
    return p | Property::diagonal;
  return p;
}
constexpr Property transposed(Property p) {
  Property t = p - (Property::lower | Property::upper);
  if (has(p, Property::lower)) t = t | Property::upper;
  if (has(p, Property::upper)) t = t | Property::lower;
  return t;
}
constexpr Property scaled(Property p) {  // by an unknown factor
  return (p - (Property::orthogonal | Property::psd)) | (p & Property::symmetric);
}
constexpr Property added(Property a, Property b) { return (a & b) - Property::orthogonal; }
constexpr Property multiplied(Property a, Property b) {
  Property p = a & b & (Property::orthogonal | Property::lower | Property::upper);
  if (has(p, Property::lower | Property::upper)) p = p | Property::symmetric;
  return p;
}

template <class A>
struct PropertiesOf {
  static constexpr Property value = [] {
    if constexpr (requires { Property(A::properties); })
      return closed(A::properties);
    else
      return Property::none;
  }();
};

}  // namespace detail

/// What holds for every A of this type.
template <class A>
inline constexpr Property properties_of = detail::PropertiesOf<std::remove_cvref_t<A>>::value;

template <class A>
concept SymmetricOperator = LinearOperator<A> && has(properties_of<A>, Property::symmetric);
template <class A>
concept SemidefiniteOperator = LinearOperator<A> && has(properties_of<A>, Property::psd);
template <class A>
concept OrthogonalOperator = LinearOperator<A> && has(properties_of<A>, Property::orthogonal);
template <class A>
concept TriangularOperator = LinearOperator<A> &&
    (has(properties_of<A>, Property::lower) || has(properties_of<A>, Property::upper));

namespace detail {
template <class A>
struct PropertiesOf<Ref<A>> : PropertiesOf<A> {};
template <class A>
struct PropertiesOf<Transposed<A>> {
  static constexpr Property value = transposed(properties_of<A>);
};
template <class A>
struct PropertiesOf<Scaled<A>> {
  static constexpr Property value = scaled(properties_of<A>);
};
template <class... As>
struct PropertiesOf<Sum<As...>> {
  static constexpr Property value = [] {
    Property all = Property(~0u);
    ((all = added(all, properties_of<As>)), ...);
    return all;
  }();
};
template <class A, class... As>
struct PropertiesOf<Product<A, As...>> {
  static constexpr Property value = [] {
    Property all = properties_of<A>;
    ((all = multiplied(all, properties_of<As>)), ...);
    return all;
  }();
};
}  // namespace detail

/// What is known of `a` when it runs, by its type, its tags or the operator it hides.
template <class A>
Property held_properties(const A& a) {
  if constexpr (requires { a.held_properties(); })
    return a.held_properties();
  else if constexpr (requires { a.get().held_properties(); })
    return a.get().held_properties();
  else
    return properties_of<A>;
}

/// "symmetric, lower triangular", "general".
inline std::string text(Property p) {
  std::string out;
  const auto say = [&](bool yes, const char* word) {
    if (yes) out += (out.empty() ? "" : ", ") + std::string(word);
  };
  say(has(p, Property::psd), "positive semidefinite");
  say(has(p, Property::symmetric) && !has(p, Property::psd) && !has(p, Property::diagonal), "symmetric");
  say(has(p, Property::orthogonal), "orthogonal");
  say(has(p, Property::diagonal), "diagonal");
  say(has(p, Property::lower) && !has(p, Property::upper), "lower triangular");
  say(has(p, Property::upper) && !has(p, Property::lower), "upper triangular");
  return out.empty() ? "general" : out;
}

}  // namespace tessera::inline TESSERA_ABI
