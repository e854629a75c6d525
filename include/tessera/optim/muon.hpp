/// Muon.
#pragma once

#include <tessera/kernels/gemm/syrk.hpp>
#include <tessera/optim/block_state.hpp>
#include <tessera/optim/trace.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// X ← a·X + (b·A + c·A²)·X with A = X·Xᵀ, `steps` times. The defaults bring every singular value of a matrix of norm
/// 1, however small, near 1 (0.7 to 1.2) in five steps: K. Jordan et al., "Muon" (2024). {1.875, -1.25, 0.375}
/// converges to 1 itself, slowly.
struct NewtonSchulz {
  double a = 3.4445, b = -4.7750, c = 2.0315;
  int steps = 5;
  double eps = 1e-7;
};

/// X (m, n), in place, to about the orthogonal factor U·Vᵀ of its singular value decomposition; zero stays zero.
/// With s = min(m, n), l = max(m, n): 3·s²·l + s³ multiplications a step, temporaries of s·l + 2s² from the workspace.
/// Bit-identical for any number of threads.
template <class T>
void orthogonalize(Context& ctx, MatrixView<T> X, const NewtonSchulz& o = {}) {
  if (X.empty()) return;
  if (!X.contiguous())
    throw shape_error(tessera::detail::concat("tessera: orthogonalize: strides ", X.row_stride(), ", ", X.col_stride(),
                                              "; expected a row-major matrix without gaps"));
  const VectorView<T> all(X.data(), X.size());
  detail::scale_in_place(ctx, 1 / (detail::norm_of(ctx, all) + o.eps), all);
  const bool tall = X.rows() > X.cols();
  const Index s = std::min(X.rows(), X.cols());
  Workspace::Scope scope(ctx.workspace);
  MatrixView<T> other(scope.take<T>(X.size()), X.rows(), X.cols()), now = X;
  const MatrixView<T> A(scope.take<T>(s * s), s, s), B(scope.take<T>(s * s), s, s);
  for (int i = 0; i < o.steps; ++i) {
    const auto wide = tall ? now.transposed() : now;
    syrk<T>(ctx, T(1), MatrixView<const T>(wide), T(0), A);
    std::copy_n(A.data(), A.size(), B.data());
    syrk<T>(ctx, static_cast<T>(o.c), MatrixView<const T>(A), static_cast<T>(o.b), B);  // A is its own transpose
    for (Index j = 0; j < s; ++j) B(j, j) += static_cast<T>(o.a);
    gemm(ctx, T(1), MatrixView<const T>(B), MatrixView<const T>(wide), T(0), tall ? other.transposed() : other);
    std::swap(now, other);
  }
  if (now.data() != X.data()) std::copy_n(now.data(), X.size(), X.data());
}

struct MuonOptions {
  double momentum = 0.95;
  bool nesterov = true;
  NewtonSchulz newton_schulz{};
};

/// mu ← momentum·mu + g;  u ← √max(1, rows/cols)·orthogonal(mu), or with Nesterov of g + momentum·mu. Takes matrices
/// (out, in) alone; the others want Adam. State: one number a parameter. K. Jordan et al., "Muon: An optimizer for
/// hidden layers in neural networks" (2024); J. Bernstein, L. Newhouse, "Old Optimizer, New Norm" (2024), §2.
struct ScaleByMuon {
  static constexpr std::string_view name = "scale_by_muon";
  MuonOptions options;

  /// Throws unsupported_error for a block that is no matrix.
  template <class T>
  BlockState<T, 1> init(const Parameters<T>& params) const {
    for (const auto& p : params)
      if (p.size() > 0) detail::check_matrix(name, p);
    return {{"mu"}, params, [](const ParameterInfo& p) { return std::array<Index, 1>{p.size()}; }};
  }
  template <class T>
  void transform(Context& ctx, std::span<const VectorView<T>> updates, BlockState<T, 1>& state,
                 const Parameters<T>& params) const {
    for (std::size_t b = 0; b < params.size(); ++b) {
      if (params[b].size() == 0) continue;
      const double rows = static_cast<double>(params[b].rows), cols = static_cast<double>(params[b].cols);
      map(ctx, detail::TraceStep<T>{static_cast<T>(options.momentum), options.nesterov}, updates[b], state.view(b, 0));
      orthogonalize(ctx, MatrixView<T>(updates[b].data(), params[b].rows, params[b].cols), options.newton_schulz);
      if (rows > cols) detail::scale_in_place(ctx, std::sqrt(rows / cols), updates[b]);
    }
    ++state.count;
  }
};
inline ScaleByMuon scale_by_muon(MuonOptions options = {}) {
  return {detail::checked_options(ScaleByMuon::name, options)};
}

}  // namespace tessera::inline TESSERA_ABI::optim
