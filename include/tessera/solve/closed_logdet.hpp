/// Determinants that types know, through references, tags, multiples, transposes, inverses, products, and sums with
/// low-rank matrices. With solve/closed.hpp, what matrix/any.hpp finds in what it holds.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include <Eigen/LU>
#include <tessera/expr/tagged.hpp>
#include <tessera/matrix/detail/bordered.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

template <class A>
concept StoredDense = requires(const A& a) {
  typename A::Element;
  a.view();
};

/// A low-rank term, held anyhow: U, V of it. Found by members left(), right() and rank().
template <class A>
constexpr bool low_rank_term() {
  using T = std::remove_cvref_t<decltype(unwrap(std::declval<const A&>()))>;
  if constexpr (is_scaled<T> || is_transposed<T>)
    return low_rank_term<std::remove_cvref_t<decltype(std::declval<const T&>().inner())>>();
  else
    return requires(const T& t) {
      t.left();
      t.right();
      t.rank();
      requires !requires { t.main(); };  // diagonal plus low rank has more
    };
}

template <class S>
struct Closed {
  const char* method = nullptr;  // none if null
  LogDeterminant<S> value;
};

template <bool compute, class... As>
auto closed_logdet_sum(Context& ctx, const Sum<As...>& sum);

/// The closed form of a square A, or that there is none; without `compute` only which.
template <bool compute, class A>
Closed<scalar_of<A>> closed_logdet(Context& ctx, const A& a) {
  using S = scalar_of<A>;
  Closed<S> out;
  if (a.rows() != a.cols()) return out;
  if (a.rows() == 0) {
    out.method = "the empty product";
    return out;
  }
  if constexpr (is_ref<A>) {
    return closed_logdet<compute>(ctx, a.get());
  } else if constexpr (requires { a.log_determinant(); }) {
    if (!knows(a, Form::log_determinant)) return out;
    constexpr bool hides = requires { a.held_properties(); };
    out.method = hides ? "the held operator's" : "the type's log_determinant()";
    if constexpr (compute) out.value = a.log_determinant();
  } else if constexpr (is_transposed<A> || is_tagged<A>) {
    return closed_logdet<compute>(ctx, a.inner());
  } else if constexpr (is_scaled<A>) {
    out = closed_logdet<compute>(ctx, a.inner());
    if constexpr (compute) out.value = out.value * LogDeterminant<S>::of(a.factor()).power(a.rows());
  } else if constexpr (is_inverse<A>) {
    out = closed_logdet<compute>(ctx, a.inner());
    out.value.log_abs = -out.value.log_abs;
  } else if constexpr (is_product<A>) {
    bool all = true;
    std::apply(
        [&](const auto&... factor) {
          const auto one = [&](const auto& f) {
            if (!all) return;
            const auto c = closed_logdet<compute>(ctx, f);
            all = c.method != nullptr;
            out.value = out.value * c.value;
          };
          (one(factor), ...);
        },
        a.factors());
    if (all) out.method = "the sum over the factors";
  } else if constexpr (is_sum<A>) {
    return closed_logdet_sum<compute>(ctx, a);
  } else if constexpr (TriangularOperator<A> && requires { a.diagonal(); }) {
    out.method = "the sum over the diagonal";
    if constexpr (compute) out.value = log_determinant_of_diagonal(a.diagonal());
  } else if constexpr (StoredDense<A>) {
    out.method = "LU";
    if constexpr (compute) out.value = lu_log_determinant(Eigen::MatrixX<S>(a.to_dense()));
  }
  return out;
}

/// One term with a closed form and an inverse, the others of low rank: the matrix determinant lemma.
template <bool compute, class... As>
auto closed_logdet_sum(Context& ctx, const Sum<As...>& sum) {
  using S = scalar_of<Sum<As...>>;
  using Matrix = Eigen::MatrixX<S>;
  constexpr std::array<bool, sizeof...(As)> low = {low_rank_term<As>()...};
  constexpr std::size_t others = (std::size_t(!low_rank_term<As>()) + ...);
  if constexpr (others == 1) {
    constexpr std::size_t other = static_cast<std::size_t>(std::find(low.begin(), low.end(), false) - low.begin());
    const auto& main = std::get<other>(sum.terms());
    using Main = std::remove_cvref_t<decltype(main)>;
    if constexpr (invertible<Main>()) {
      auto out = closed_logdet<compute>(ctx, main);
      if (out.method == nullptr || !knows(main, Form::inverse)) return Closed<S>{};
      out.method = "the matrix determinant lemma";
      if constexpr (compute) {
        std::vector<Matrix> lefts, rights;
        Index rank = 0;
        const auto collect = [&](auto& self, const auto& term, S factor, bool flipped) -> void {
          using T = std::remove_cvref_t<decltype(term)>;
          if constexpr (is_ref<T>)
            self(self, term.get(), factor, flipped);
          else if constexpr (is_scaled<T>)
            self(self, term.inner(), factor * term.factor(), flipped);
          else if constexpr (is_transposed<T>)
            self(self, term.inner(), factor, !flipped);
          else if constexpr (low_rank_term<T>()) {
            lefts.push_back(factor * tessera::to_dense(flipped ? term.right() : term.left()));
            rights.push_back(tessera::to_dense(flipped ? term.left() : term.right()));
            rank += term.rank();
          }
        };
        std::apply([&](const As&... term) { (collect(collect, term, S(1), false), ...); }, sum.terms());
        Matrix U(sum.rows(), rank), V(sum.rows(), rank);
        Index at = 0;
        for (std::size_t i = 0; i < lefts.size(); at += lefts[i++].cols()) {
          U.middleCols(at, lefts[i].cols()) = lefts[i];
          V.middleCols(at, lefts[i].cols()) = rights[i];
        }
        if constexpr (has(properties_of<Main>, Property::diagonal) && has_diagonal<Main>) {
          out.value = Bordered<S>(main.diagonal(), U, V, Bordered<S>::for_solutions).log_determinant();
          return out;
        }
        const auto main_inverse = invert_held(Ref<Main>(main));
        if constexpr (requires { factored(main_inverse).reciprocal_condition(); }) {
          // One that is close to singular says little of the sum, whose own LU costs no more.
          if (!(factored(main_inverse).reciprocal_condition() >= std::sqrt(std::numeric_limits<S>::epsilon()))) {
            out.value = lu_log_determinant(Matrix(tessera::to_dense(main) + U * V.transpose()));
            return out;
          }
        }
        Matrix AU(U.rows(), rank);
        main_inverse.apply(ctx, Op::none, S(1), view(U), S(0), view(AU));
        out.value = out.value * lu_log_determinant(Matrix(Matrix::Identity(rank, rank) + V.transpose() * AU));
      }
      return out;
    } else {
      return Closed<S>{};
    }
  } else {
    return Closed<S>{};
  }
}

template <class A>
void check_square_for(const char* what, const A& a) {
  if (a.rows() != a.cols())
    throw shape_error(
        concat("tessera: ", what, " of (", text_of(a), "): ", a.rows(), " rows != ", a.cols(), " columns"));
}

}  // namespace detail

/// The determinant of A if its structure tells it; without `compute` only whether. Throws shape_error where it is to
/// compute that of an A that is not square.
template <LinearOperator A>
std::optional<LogDeterminant<scalar_of<A>>> closed_log_determinant(const A& a, bool compute) {
  if (compute) detail::check_square_for("determinant", a);
  const auto closed =
      compute ? detail::closed_logdet<true>(default_context(), a) : detail::closed_logdet<false>(default_context(), a);
  if (closed.method == nullptr) return std::nullopt;
  return closed.value;
}

}  // namespace tessera::inline TESSERA_ABI
