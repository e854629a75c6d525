/// Samples of the structured types of the simple kind, for the laws of either Scalar.
#pragma once

#include <array>
#include <vector>

#include <Eigen/Dense>
#include <support/operator_laws.hpp>
#include <tessera/matrix/banded.hpp>
#include <tessera/matrix/block_2x2.hpp>
#include <tessera/matrix/diagonal_plus_low_rank.hpp>
#include <tessera/matrix/eigen_sparse.hpp>
#include <tessera/matrix/gather.hpp>
#include <tessera/matrix/identity.hpp>
#include <tessera/matrix/ldu.hpp>
#include <tessera/matrix/stack.hpp>
#include <tessera/matrix/triangular.hpp>

namespace tessera::test {

template <class S>
struct Truth<DiagonalPlusLowRank<S>> {
  using A = DiagonalPlusLowRank<S>;
  static Eigen::MatrixXd value(const A& a) {
    Eigen::MatrixXd v =
        a.left().to_dense().template cast<double>() * a.right().to_dense().template cast<double>().transpose();
    v.diagonal() += a.main().diagonal().template cast<double>();
    return v;
  }
  static Eigen::MatrixXd magnitude(const A& a) {
    Eigen::MatrixXd m = a.left().to_dense().template cast<double>().cwiseAbs() *
                        a.right().to_dense().template cast<double>().cwiseAbs().transpose();
    m.diagonal() += a.main().diagonal().template cast<double>().cwiseAbs();
    return m;
  }
  static double roundings(const A& a, Op) { return static_cast<double>(a.rows() + a.rank()) + 8; }
  static double extra(const A&, Op, Index, VectorView<const accum_t<S>>) { return 0; }
};

template <class S, class F>
void for_each_parameter(DiagonalPlusLowRank<S>& a, F&& f) {
  for (auto& p : a.main().parameters()) f(p);
  for (auto& p : a.left().parameters()) f(p);
  for (auto& p : a.right().parameters()) f(p);
}
template <class S, Shape shape, class F>
void for_each_parameter(Triangular<S, shape>& a, F&& f) {
  using T = Triangular<S, shape>;
  for (Index i = 0; i < a.rows(); ++i)
    for (Index j = T::is_lower ? 0 : i + T::is_unit; j < (T::is_lower ? i + !T::is_unit : a.rows()); ++j) f(a.at(i, j));
}

template <class S>
Banded<S> random_banded(Index rows, Index cols, Index lower, Index upper, S boost = 0) {
  Banded<S> A(rows, cols, lower, upper);
  const auto values = random_buffer<S>(A.parameter_count(), 71);
  for (Index i = 0; i < values.size(); ++i) A.parameters()[static_cast<std::size_t>(i)] = values[i];
  for (Index i = 0; i < A.diagonal(0).extent(0); ++i) A.diagonal(0)[i] += boost;
  return A;
}

template <class S>
struct BandedCase {
  using Operator = Banded<S>;
  static std::vector<Operator> samples() {
    return {Operator(),
            random_banded<S>(1, 1, 0, 0),
            random_banded<S>(20, 20, 1, 1),
            random_banded<S>(9, 30, 2, 4),
            random_banded<S>(30, 9, 1, 3),
            random_banded<S>(17, 17, 5, 0),
            random_banded<S>(4, 4, 9, 9),
            random_banded<S>(6, 0, 1, 1),
            random_banded<S>(2, 40, 0, 5)};
  }
};

template <class S, Shape shape>
struct TriangularCase {
  using Operator = Triangular<S, shape>;
  static std::vector<Operator> samples() {
    std::vector<Operator> all(1);
    for (const Index n : {1, 9, 64, 130}) {
      auto values = random_buffer<S>(n * n, 72);
      for (Index i = 0; i < n; ++i)
        for (Index j = 0; j < n; ++j) values[i * n + j] = values[i * n + j] / S(n) + S(i == j ? 2 : 0);
      all.emplace_back(MatrixView<const S>(values.data(), n, n));
    }
    return all;
  }
};

template <class S>
struct DiagonalPlusLowRankCase {
  using Operator = DiagonalPlusLowRank<S>;
  static std::vector<Operator> samples() {
    std::vector<Operator> all(1);
    for (const auto& [n, r] : std::vector<std::array<Index, 2>>{{1, 1}, {20, 3}, {33, 0}, {7, 7}}) {
      using Wide = accum_t<S>;
      auto d = random_buffer<Wide>(n, 73);
      for (auto& x : d) x = Wide(4) + x / 2;
      const auto dense = [size = n, k = r](std::uint64_t seed) {
        auto values = random_buffer<Wide>(size * k, seed);
        for (auto& x : values) x /= Wide(4);
        return Dense<S>(MatrixView<const Wide>(values.data(), size, k));
      };
      all.emplace_back(Diagonal<Wide>(std::move(d)), dense(74), dense(75));
    }
    return all;
  }
};

template <class S>
struct RangeCase {
  using Operator = Range<S>;
  static std::vector<Operator> samples() {
    return {Operator(0, 0, 0),       Operator(9, 2, 5), Operator(20, 1, 6, 3),
            Operator(20, 19, 5, -4), Operator(5, 0, 0), reversal<S>(7)};
  }
};

template <class S>
struct GatherCase {
  using Operator = Gather<S>;
  static std::vector<Operator> samples() {
    const std::vector<Index> some = {3, 3, 0, 6, 1}, many = {0, 1, 1, 0, 1, 0, 0, 0};
    return {Operator(), Operator(7, some), Operator(2, many), Operator(4, {})};
  }
};

template <class S>
struct Truth<Ldu<S>> {
  using A = Ldu<S>;
  static Eigen::MatrixXd product(const A& a, bool absolute) {
    const auto take = [&](const auto& m) {
      const Eigen::MatrixXd v = to_dense(m).template cast<double>();
      return absolute ? Eigen::MatrixXd(v.cwiseAbs()) : v;
    };
    return take(a.P()) * take(a.L()) * take(a.d()) * take(a.U()) * take(a.Q());
  }
  static Eigen::MatrixXd value(const A& a) { return product(a, false); }
  static Eigen::MatrixXd magnitude(const A& a) { return product(a, true); }
  static double roundings(const A& a, Op) { return static_cast<double>(a.rows() + a.cols()) + 8; }
  static double extra(const A&, Op, Index, VectorView<const accum_t<S>>) { return 0; }
};

template <class B, bool vertical, class F>
void for_each_parameter(Stack<B, vertical>& a, F&& f) {
  for (Index i = 0; i < static_cast<Index>(a.blocks().size()); ++i) for_each_parameter(a.block(i), f);
}
template <class A, class B, class C, class D, class F>
void for_each_parameter(Block2x2<A, B, C, D>& a, F&& f) {
  for_each_parameter(a.a(), f);
  for_each_parameter(a.b(), f);
  for_each_parameter(a.c(), f);
  for_each_parameter(a.d(), f);
}
template <class S, class F>
void for_each_parameter(Loldu<S>& a, F&& f) {
  for (auto& z : a.z()) f(z);
  f(a.alpha());
}

template <class S>
Dense<S> random_dense(Index rows, Index cols, std::uint64_t seed) {
  const auto values = random_buffer<S>(rows * cols, seed);
  return Dense<S>(MatrixView<const S>(values.data(), rows, cols));
}
template <class S>
Eigen::SparseMatrix<S> random_sparse(Index rows, Index cols, std::uint64_t seed) {
  Eigen::SparseMatrix<S> A(rows, cols);
  const Philox draws(seed);
  for (Index i = 0; i < rows; ++i)
    for (Index j = 0; j < cols; ++j)
      if (const auto at = static_cast<std::uint64_t>(i * cols + j); draws.below(at, 4) == 0)
        A.insert(i, j) = static_cast<S>(draws.normal(at));
  return A;
}

template <class S, bool vertical>
struct StackCase {
  using Operator = Stack<Dense<S>, vertical>;
  static Dense<S> block(Index n, std::uint64_t seed) {
    return vertical ? random_dense<S>(n, 6, seed) : random_dense<S>(6, n, seed);
  }
  static std::vector<Operator> samples() {
    return {Operator(), Operator({block(3, 80)}), Operator({block(4, 81), block(0, 82), block(7, 83)})};
  }
};

template <class S>
struct MixedStackCase {
  using Operator = HorizontalStack<AnyOperator<S>>;
  static std::vector<Operator> samples() {
    return {horizontal_stack(lawful(random_dense<S>(6, 4, 84)), lawful(Identity<S>(6)),
                             lawful(Diagonal<S>(random_buffer<S>(6, 85))), lawful(Zero<S>(6, 2)))};
  }
};

template <class S>
struct Block2x2Case {
  using Operator = Block2x2<Dense<S>, Dense<S>, Dense<S>, Diagonal<S>>;
  static std::vector<Operator> samples() {
    std::vector<Operator> all;
    for (const Index n : {1, 8})
      all.push_back(block_2x2(random_dense<S>(n, n, 86), random_dense<S>(n, 5, 87), random_dense<S>(5, n, 88),
                              Diagonal<S>(random_buffer<S>(5, 89))));
    all.push_back(block_2x2(random_dense<S>(3, 7, 86), random_dense<S>(3, 5, 87), random_dense<S>(5, 7, 88),
                            Diagonal<S>(random_buffer<S>(5, 89))));
    all.push_back(
        block_2x2(random_dense<S>(0, 0, 86), random_dense<S>(0, 0, 87), random_dense<S>(0, 0, 88), Diagonal<S>()));
    return all;
  }
};

template <class S>
struct SparseCase {
  using Operator = EigenSparse<S>;
  static std::vector<Operator> samples() {
    return {Operator(), eigen_sparse(random_sparse<S>(20, 13, 90)), eigen_sparse(random_sparse<S>(9, 30, 91)),
            eigen_sparse(Eigen::SparseMatrix<S>(4, 4))};
  }
};

template <class S>
struct LduCase {
  using Operator = Ldu<S>;
  static std::vector<Operator> samples() {
    const auto of = [](Index rows, Index cols, Index rank = -1) {
      return Operator(
          ldu_decompose(Eigen::MatrixX<accum_t<S>>(to_dense(random_dense<accum_t<S>>(rows, cols, 92))), rank));
    };
    return {of(1, 1), of(12, 12), of(9, 14, 4), of(14, 9)};
  }
};

template <class S>
struct LolduCase {
  using Operator = Loldu<S>;
  static std::vector<Operator> samples() {
    return {Operator(to_dense(random_dense<S>(11, 7, 93)), 3), Operator(to_dense(random_dense<S>(6, 6, 94)), 6)};
  }
};
template <class S>
struct Truth<Loldu<S>> {
  using A = Loldu<S>;
  static Eigen::MatrixXd value(const A& a) { return to_dense(a).template cast<double>(); }
  static Eigen::MatrixXd magnitude(const A& a) {
    return value(a).cwiseAbs() + 2 * Truth<Ldu<S>>::magnitude(a.adapter());
  }
  static double roundings(const A& a, Op) { return 2.0 * static_cast<double>(a.rows() + a.cols()) + 8; }
  static double extra(const A&, Op, Index, VectorView<const S>) { return 0; }
};

}  // namespace tessera::test
