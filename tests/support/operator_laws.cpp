#include <support/operator_laws.hpp>

namespace tessera::test {

TESSERA_OPERATOR_LAWS(, float)
TESSERA_OPERATOR_LAWS(, double)

void check_derivative_law(const AnyOperator<double>& a, std::span<double* const> parameters) {
  Context ctx;
  const Index n = 3;
  const Grid<double> X(a.cols(), n, 0, 13), dY(a.rows(), n, 0, 14);
  std::vector<double> grad(static_cast<std::size_t>(a.parameter_count()));
  a.grad(ctx, X.view(), dY.view(), 0, grad);
  const auto loss = [&] {
    Grid<double> Y(a.rows(), n, 0, 15);
    a.apply(ctx, Op::none, 1, X.view(), 0, Y.view());
    return in_double(Y.view()).cwiseProduct(in_double(dY.view())).sum();
  };
  ASSERT_EQ(parameters.size(), grad.size());
  for (std::size_t i = 0; i < grad.size(); ++i) {
    constexpr double h = 1e-3;  // the loss is at most quadratic in one parameter: only rounding remains
    double& p = *parameters[i];
    const double old = p;
    p = old + h;
    const double up = loss();
    p = old - h;
    const double down = loss();
    p = old;
    EXPECT_NEAR(grad[i], (up - down) / (2 * h), 1e-9 * (1 + std::abs(up))) << describe(a) << " parameter " << i;
  }
}

namespace {

template <class S>
class OperatorLaw : public ::testing::Test {
 public:
  using Check = void (*)(const Subject<S>&);
  OperatorLaw(LawfulKind<S> kind, Check check) : kind_(kind), check_(check) {}
  void TestBody() override {
    for (const auto& subject : kind_.subjects()) check_(subject);
    if (check_ == &gradient && kind_.check_derivatives != nullptr) kind_.check_derivatives();
  }

  static void solve(const Subject<S>& s) {
    if (s.solve) check_solve_law(s);
  }
  static void gradient(const Subject<S>& s) {
    if (s.trainable && s.a.parameter_count() > 0) check_gradient_law(s);
  }

 private:
  LawfulKind<S> kind_;
  Check check_;
};

}  // namespace

template <class S>
void register_laws(const std::string& suite, int index, const std::string& type, LawfulKind<S> kind) {
  using Law = OperatorLaw<S>;
  const std::string name = suite + "/OperatorLaws/" + std::to_string(index);
  const auto add = [&](const char* law, typename Law::Check check) {
    ::testing::RegisterTest(name.c_str(), law, type.c_str(), nullptr, __FILE__, __LINE__,
                            [kind, check]() -> ::testing::Test* { return new Law(kind, check); });
  };
  add("AppliesLikeItsDense", &check_apply_law<S>);
  add("ZeroReadsNothing", &check_zero_law<S>);
  add("AdjointIsTheTranspose", &check_adjoint_law<S>);
  add("ThreadsDoNotChangeBits", &check_threads_law<S>);
  add("ShapeErrorsNameBoth", &check_shape_law<S>);
  add("DescribesItself", &check_description_law<S>);
  add("AliasingIsSeen", &check_alias_law<S>);
  add("SolvesWhatItApplies", &Law::solve);
  add("GradientIsTheDerivative", &Law::gradient);
}
template void register_laws<float>(const std::string&, int, const std::string&, LawfulKind<float>);
template void register_laws<double>(const std::string&, int, const std::string&, LawfulKind<double>);

}  // namespace tessera::test
