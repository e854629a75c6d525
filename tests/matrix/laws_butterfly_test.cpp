#include <vector>

#include <support/operator_laws.hpp>
#include <tessera/matrix/butterfly.hpp>
#include <tessera/project/butterfly.hpp>

namespace tessera::test {

template <class P>
struct Truth<Butterfly<P>> {
  using A = Butterfly<P>;
  static Eigen::MatrixXd product(const A& a, bool absolute) {
    Eigen::MatrixXd B = Eigen::MatrixXd::Identity(a.rows(), a.rows());
    for (Index l = 0; l < a.levels(); ++l) {
      Eigen::MatrixXd level = Eigen::MatrixXd::Zero(a.rows(), a.rows());
      for (Index i = 0; i < a.rows(); ++i) {
        level(i, i) = static_cast<double>(a.own(l, i));
        level(i, i ^ Index{1} << l) = static_cast<double>(a.other(l, i));
      }
      B = (absolute ? Eigen::MatrixXd(level.cwiseAbs()) : level) * B;
    }
    return B;
  }
  static Eigen::MatrixXd value(const A& a) { return product(a, false); }
  static Eigen::MatrixXd magnitude(const A& a) { return product(a, true); }
  static double roundings(const A& a, Op) { return 2 * static_cast<double>(a.levels()) + 6; }
  static double extra(const A&, Op, Index, VectorView<const accum_t<P>>) { return 0; }
};

namespace TESSERA_TEST_FILE {

template <class P>
struct ButterflyCase {
  using Operator = Butterfly<P>;
  static std::vector<Operator> samples() {
    std::vector<Operator> all;
    for (const Index n : {1, 2, 4, 32, 128}) {
      all.emplace_back(n);
      const Philox draws(94);
      std::uint64_t i = 0;
      for (auto& p : all.back().parameters()) p = static_cast<P>(static_cast<float>(draws.normal(i++)));
    }
    return all;
  }
};

using Types = ::testing::Types<ButterflyCase<float>, ButterflyCase<double>, ButterflyCase<bf16>>;
const bool butterfly_laws = OperatorLaws<Types>::of("Butterfly");

TEST(Butterfly, EveryKernelAgrees) {
  const auto B = ButterflyCase<float>::samples()[4];
  const auto subject = make_subject(B);
  for (const auto& kernel : ButterflyKernels::entries<ButterflyArgs<float, float>>()) {
    if (!active_isa().has(kernel.isa)) {
      std::printf("[          ] %s: needs %s\n", std::string(kernel.name).c_str(),
                  std::string(isa_name(kernel.isa)).c_str());
      continue;
    }
    for (const Op op : {Op::none, Op::transpose})
      for (const Index n : {1, 7, 16, 33, 70})
        for (const int layout : {0, 1, 2}) {
          Context ctx = Context::with_threads(1 + layout % 2);
          ctx.force(kernel.name);
          const Grid<float> X(128, n, layout, 1);
          Grid<float> Y(128, n, layout, 2);
          B.apply(ctx, op, 2.0f, X.view(), 0.0f, Y.view());
          expect_applied(subject, op, 2.0f, X.view(), 0.0f, {}, std::as_const(Y).view(),
                         detail::concat(kernel.name, " n=", n, " layout ", layout));
        }
  }
}

TEST(Butterfly, ProjectionFindsIt) {
  const auto B = ButterflyCase<double>::samples()[3];
  EXPECT_LT(project<Butterfly<double>>(B, {}).report.relative_error(), 1e-8);
  Eigen::MatrixXd hadamard(16, 16);
  for (Index i = 0; i < 16; ++i)
    for (Index j = 0; j < 16; ++j) hadamard(i, j) = __builtin_parityll(static_cast<unsigned long long>(i & j)) ? -1 : 1;
  const auto [H, report] = project<Butterfly<float>>(hadamard, {});
  EXPECT_LT(report.relative_error(), 1e-6);
  EXPECT_LT(report.bytes_ratio(), 0.51);
  EXPECT_THROW(project<Butterfly<float>>(Eigen::MatrixXd::Zero(12, 12), {}), shape_error);
  EXPECT_THROW(Butterfly<float>(12), shape_error);
}

}  // namespace
}  // namespace tessera::test
