/// A factor used many times, packed once as a kernel's tiles read it.
#pragma once

#include <concepts>
#include <cstring>
#include <type_traits>

#include <tessera/core/buffer.hpp>
#include <tessera/kernels/gemm/gemm.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

/// `f(std::type_identity<K>)` for the first kernel of the list that packs and that `wanted` says yes to.
template <class TA, class TB, class T, class... Kernels, class Wanted, class F>
bool with_packing_kernel(KernelList<Kernels...>, Wanted&& wanted, F&& f) {
  const auto visit = [&]<class K>(std::type_identity<K> kernel) {
    if constexpr (requires { typename K::template Blocked<TA, TB, T>; })
      if (wanted(K::name, K::isa)) {
        f(kernel);
        return true;
      }
    return false;
  };
  return (visit(std::type_identity<Kernels>()) || ...);
}

}  // namespace detail

/// B (K,N) of float or double, packed for the best kernel of this processor, or for the one that the context forces.
/// About as large as B: bytes().
template <class T>
requires std::floating_point<T>
class PackedFactor {
 public:
  PackedFactor() = default;
  /// O(K*N). Throws unsupported_error if the forced kernel packs nothing or is not there.
  PackedFactor(const Context& ctx, MatrixView<const T> B) : rows_(B.rows()), cols_(B.cols()) {
    const std::string_view forced = ctx.forced("gemm");
    const auto wanted = [&](std::string_view name, Isa isa) {
      return active_isa().has(isa) && (forced.empty() || name == forced);
    };
    const bool found = visit(wanted, [&]<class K>(std::type_identity<K>) {
      using Blocked = typename K::template Blocked<T, T, T>;
      kernel_ = K::name;
      if (B.empty()) return;
      memory_ = Buffer<T>(Blocked::whole_elements(cols_, rows_));
      GemmArgs<T, T, T> args;
      args.A = {nullptr, 1, rows_};
      args.B = B;
      args.C = {nullptr, 1, cols_};
      Blocked::pack_whole(args, memory_.data());
    });
    if (!found)
      throw unsupported_error(detail::concat("tessera: forced kernel ", forced, " packs nothing here; expected one of",
                                             " gemm:avx512, gemm:avx2, gemm:xsimd that this processor has"));
  }

  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  std::size_t bytes() const { return memory_.bytes(); }
  std::string_view kernel() const { return kernel_; }
  ByteRange byte_range() const { return {memory_.begin(), memory_.end()}; }

  /// C (M,N) = alpha*A (M,K)*B + beta*C, as gemm does; with an epilogue: gemm/epilogue.hpp.
  void multiply(Context& ctx, T alpha, MatrixView<const T> A, T beta, MatrixView<T> C,
                GemmFinish<T> finish = {}) const {
    if (A.cols() != rows_ || C.rows() != A.rows() || C.cols() != cols_)
      throw shape_error(detail::concat(
          "tessera: gemm of (", detail::shape_text(A.rows(), A.cols()), ") * (packed ",
          detail::shape_text(rows_, cols_), ") into (", detail::shape_text(C.rows(), C.cols()), "): expected ",
          detail::shape_text(A.rows(), rows_), " into ", detail::shape_text(A.rows(), cols_)));
    if (C.empty()) return;
    if (rows_ == 0 || alpha == T(0)) {
      for (Index i = 0; i < C.rows(); ++i)
        for (Index j = 0; j < C.cols(); ++j) C(i, j) = beta == T(0) ? T(0) : beta * C(i, j);
      if (finish.run != nullptr) finish(C, 0, 0);
      return;
    }
    auto args = detail::gemm_args<T, T, T>(alpha, A, {nullptr, rows_, cols_}, beta, C);
    args.packed_whole = reinterpret_cast<const std::byte*>(memory_.data());
    args.finish = finish;
    visit([&](std::string_view name, Isa) { return name == kernel_; },
          [&]<class K>(std::type_identity<K>) {
            const auto entry = detail::kernel_entry<K, GemmArgs<T, T, T>>();
            if (detail::gemm_alone(ctx, args))
              launch(ctx, entry, args, args.m(), args.m());
            else
              detail::gemm_in_parallel<typename K::template Blocked<T, T, T>>(ctx, entry, args);
          });
  }

  /// B itself to `out`.
  void unpack(MatrixView<T> out) const {
    if (out.empty()) return;
    visit([&](std::string_view name, Isa) { return name == kernel_; },
          [&]<class K>(std::type_identity<K>) {
            using Blocked = typename K::template Blocked<T, T, T>;
            const Index nb = Blocked::n_block(cols_), kb = Blocked::k_block(rows_), nr = Blocked::tiling.nr;
            for (Index i = 0; i < rows_; ++i)
              for (Index j = 0; j < cols_; ++j) {
                const Index jc = j / nb * nb, pc = i / kb * kb, kp = Blocked::packed_k(std::min(kb, rows_ - pc));
                out(i, j) = memory_[Blocked::whole_offset(cols_, rows_, jc, pc) + (j - jc) / nr * nr * kp +
                                    (i - pc) * nr + (j - jc) % nr];
              }
          });
  }

 private:
  template <class Wanted, class F>
  static bool visit(Wanted&& wanted, F&& f) {
    return detail::with_packing_kernel<T, T, T>(GemmKernels<T, T, T>(), wanted, f);
  }

  Buffer<T> memory_;
  Index rows_ = 0, cols_ = 0;
  std::string_view kernel_;
};

}  // namespace tessera::inline TESSERA_ABI
