/// The product of two Monarch matrices as one operator.
#pragma once

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include <tessera/matrix/monarch.hpp>

namespace tessera::inline TESSERA_ABI {

/// M1 M2 (M,N) = (L1 R1)(L2 R2) of Monarch matrices (M,K) and (K,N) that stay where they are. Blocks of columns pass
/// all stages, so that no (K,n) result is written to memory. Where R1 L2 costs fewer operations multiplied than apart,
/// it is multiplied here, once: for g = row blocks of M2 / columns of a block of M1 a whole number, R1's block k meets
/// only the columns-of-a-block blocks of L2 that are k modulo g, and the product has a block for each such meeting;
/// otherwise it is dense. That pays where L1 or R2 is one block of rank 1 and where K is large next to what is between
/// the stages (512 columns a block of M1 and 8 row blocks of M2, as M1 reduces what M2 has expanded). With square ones
/// of √N blocks it never does: then it costs what both matrices cost.
template <DenseElement P>
class MonarchProduct : public OperatorBase<MonarchProduct<P>> {
 public:
  using Scalar = accum_t<P>;
  static constexpr bool is_view = true;

  /// Throws shape_error unless a has as many columns as b rows. O(merged stage) where there is one.
  MonarchProduct(MonarchView<P> a, MonarchView<P> b) : a_(a), b_(b) {
    if (a.cols() != b.rows())
      throw shape_error(detail::concat("tessera: (", a.describe(), ") * (", b.describe(), "): columns ", a.cols(),
                                       " != rows ", b.rows()));
    const MonarchShape &s = a.shape(), &t = b.shape();
    if (s.col_size < 1) return;
    if (t.row_blocks % s.col_size == 0) groups_ = t.row_blocks / s.col_size;
    const auto times = [](Index x, Index y) { return static_cast<double>(x) * static_cast<double>(y); };
    const double apart = static_cast<double>(s.right_size()) + static_cast<double>(t.left_size());
    const double merged = times(s.middle(), t.middle()) / static_cast<double>(groups_);
    if (merged < apart) merge();
  }

  Index rows() const { return a_.rows(); }
  Index cols() const { return b_.cols(); }
  const MonarchView<P>& left() const { return a_; }
  const MonarchView<P>& right() const { return b_; }
  /// The inner two stages are one.
  bool merged() const { return middle_ != nullptr; }

  void apply(Context& ctx, Op op, Scalar alpha, MatrixView<const Scalar> X, Scalar beta, MatrixView<Scalar> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    const MonarchShape &s = a_.shape(), &t = b_.shape();
    const Index n = X.cols(), widest = std::max(s.middle(), t.middle()), between = merged() ? widest : t.rows();
    const Index most = std::min(n, detail::monarch_columns<Scalar>(widest + between));
    if (most == 0) return;
    Workspace::Scope scope(ctx.workspace);
    Scalar *const front = scope.take<Scalar>(widest * most), *const back = scope.take<Scalar>(between * most);
    for (Index j = 0; j < n; j += most) {
      const Index w = std::min(most, n - j);
      const auto x = X.slice(1, j, w);
      const auto y = Y.slice(1, j, w);
      const MatrixView<Scalar> whole(back, t.rows(), w);  // what M2 X is, unless merged
      const Scalar* last = merged() ? back : front;
      const auto stage = [&](Scalar by, View<const P, 3> A, View<const Scalar, 3> B, Scalar keep, View<Scalar, 3> C) {
        block_stage<P, Scalar>(ctx, by, op == Op::none ? A : detail::turned(A), B, keep, C);
      };
      if (op == Op::none) {
        if (alpha != Scalar(0)) {
          stage(Scalar(1), b_.right(), t.in(x), Scalar(0), t.after_right(front, w));
          if (merged()) {
            run_middle(ctx, op, front, back, w);
          } else {
            stage(Scalar(1), b_.left(), t.before_left<const Scalar>(front, w), Scalar(0), t.out(whole));
            stage(Scalar(1), a_.right(), s.in(MatrixView<const Scalar>(whole)), Scalar(0), s.after_right(front, w));
          }
        }
        stage(alpha, a_.left(), s.before_left(last, w), beta, s.out(y));
      } else {
        if (alpha != Scalar(0)) {
          stage(Scalar(1), a_.left(), s.out(x), Scalar(0), s.before_left(front, w));
          if (merged()) {
            run_middle(ctx, op, front, back, w);
          } else {
            stage(Scalar(1), a_.right(), s.after_right<const Scalar>(front, w), Scalar(0), s.in(whole));
            stage(Scalar(1), b_.left(), t.out(MatrixView<const Scalar>(whole)), Scalar(0), t.before_left(front, w));
          }
        }
        stage(alpha, b_.right(), t.after_right(last, w), beta, t.in(y));
      }
    }
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    a_.for_each_buffer(f);
    b_.for_each_buffer(f);
    if (merged()) f(ByteRange{middle_->begin(), middle_->end()});
  }
  /// What a product reads.
  std::size_t bytes() const {
    if (!merged()) return a_.bytes() + b_.bytes();
    return static_cast<std::size_t>(a_.shape().left_size() + b_.shape().right_size()) * sizeof(P) + middle_->bytes();
  }
  double flops(Index n) const {
    if (!merged()) return a_.flops(n) + b_.flops(n);
    const Index outer = a_.shape().left_size() + b_.shape().right_size();
    return 2.0 * static_cast<double>(outer + middle_->size()) * static_cast<double>(n);
  }
  std::string describe() const {
    return detail::concat("MonarchProduct<", a_.describe(), " * ", b_.describe(),
                          merged() ? ", inner stages merged" : "", "> ", detail::shape_text(rows(), cols()));
  }
  /// Those of M1, then those of M2.
  Index parameter_count() const { return a_.parameter_count() + b_.parameter_count(); }
  /// M1's gradient of <dY, M1 (M2 X)> and M2's of <M1ᵀ dY, M2 X>, whether stages are merged or not; the merged ones are
  /// of the factors as they were: build the product anew after a step. (K,n) of scratch.
  void grad(Context& ctx, MatrixView<const Scalar> X, MatrixView<const Scalar> dY, Scalar beta,
            std::span<Scalar> dparams) const {
    detail::check_grad(*this, X, dY, dparams);
    Workspace::Scope scope(ctx.workspace);
    const Index n = X.cols();
    const MatrixView<Scalar> between(scope.take<Scalar>(b_.rows() * n), b_.rows(), n);
    const auto first = static_cast<std::size_t>(a_.parameter_count());
    b_.apply(ctx, Op::none, Scalar(1), X, Scalar(0), between);
    a_.grad(ctx, between, dY, beta, dparams.first(first));
    a_.apply(ctx, Op::transpose, Scalar(1), dY, Scalar(0), between);
    b_.grad(ctx, X, between, beta, dparams.subspan(first));
  }
  void explain(Context& ctx, Op op, Index n, const KernelSink& sink) const {
    b_.explain(ctx, op, n, sink);
    sink(merged() ? "fused: three stages a block of columns, the inner two merged"
                  : "fused: four stages a block of columns",
         "");
  }

 private:
  /// A meeting of block k = i·groups + c of R1 with the blocks c·col_size… of L2, input j of each: (groups, M, K) for
  /// every (i, j) where there are groups, else one dense matrix.
  View<const Scalar, 3> meeting(Index i, Index j) const {
    const Index m = each(), k = a_.shape().col_size, inputs = b_.shape().col_blocks * b_.shape().rank;
    return {middle_->data() + (i * inputs + j) * groups_ * m * k, {groups_, m, k}, {m * k, 1, m}};
  }
  Index each() const { return a_.shape().rank * a_.shape().row_blocks; }

  void merge() {
    const MonarchShape &s = a_.shape(), &t = b_.shape();
    const Index m = each(), k = s.col_size, inputs = t.col_blocks * t.rank;
    middle_ = std::make_shared<Buffer<Scalar>>(s.middle() * t.middle() / groups_);
    const auto R = a_.right(), L = b_.left();
    for (Index row = 0; row < t.rows(); ++row)
      for (Index j = 0; j < inputs; ++j) {
        const Index block = row / k, q = row % k, l = row % t.row_blocks, i = row / t.row_blocks;
        const auto value = static_cast<Scalar>(L(l, i, j));
        Scalar* to = groups_ > 1 ? middle_->data() + ((i * inputs + j) * groups_ + block % groups_) * m * k + q * m
                                 : middle_->data() + block * m * t.middle() + j * t.row_blocks + l;
        const Index step = groups_ > 1 ? 1 : t.middle();
        for (Index r = 0; r < m; ++r) to[r * step] += static_cast<Scalar>(R(block, r, q)) * value;
      }
  }
  /// to = op(R1 L2) from, of n contiguous columns.
  void run_middle(Context& ctx, Op op, const Scalar* from, Scalar* to, Index n) const {
    const MonarchShape &s = a_.shape(), &t = b_.shape();
    const Index m = each(), k = s.col_size, inputs = t.col_blocks * t.rank, left = s.middle(), right = t.middle();
    if (groups_ == 1) {
      const MatrixView<const Scalar> F(middle_->data(), left, right);
      return gemm(ctx, Scalar(1), op == Op::none ? F : F.transposed(),
                  MatrixView<const Scalar>(from, op == Op::none ? right : left, n), Scalar(0),
                  MatrixView<Scalar>(to, op == Op::none ? left : right, n));
    }
    const auto outputs_at = [&]<class T>(T* data, Index i) {
      return View<T, 3>(data + i * groups_ * m * n, {groups_, m, n}, {m * n, n, 1});
    };
    const auto inputs_at = [&]<class T>(T* data, Index j) {
      return View<T, 3>(data + j * t.row_blocks * n, {groups_, k, n}, {k * n, n, 1});
    };
    for (Index i = 0; i < t.row_size; ++i)
      for (Index j = 0; j < inputs; ++j)
        if (op == Op::none)
          block_stage<Scalar, Scalar>(ctx, Scalar(1), meeting(i, j), inputs_at(from, j), Scalar(j > 0),
                                      outputs_at(to, i));
        else
          block_stage<Scalar, Scalar>(ctx, Scalar(1), detail::turned(meeting(i, j)), outputs_at(from, i), Scalar(i > 0),
                                      inputs_at(to, j));
  }

  MonarchView<P> a_, b_;
  Index groups_ = 1;
  std::shared_ptr<Buffer<Scalar>> middle_;
};

/// M1 M2 in one operator that refers to both.
template <class P>
MonarchProduct<P> monarch_product(const Monarch<P>& a, const Monarch<P>& b) {
  return {MonarchView<P>(a), MonarchView<P>(b)};
}
template <class P>
void monarch_product(const Monarch<P>&&, const Monarch<P>&) = delete;
template <class P>
void monarch_product(const Monarch<P>&, const Monarch<P>&&) = delete;

/// (P L1 Pᵀ R1)(P L2 Pᵀ R2) is applied stage by stage, or with R1 P L2 multiplied. Of views: a rule cannot keep the
/// matrices that an expression refers to.
template <class P>
MonarchProduct<P> multiply(const MonarchView<P>& a, const MonarchView<P>& b) {
  return {a, b};
}

}  // namespace tessera::inline TESSERA_ABI
