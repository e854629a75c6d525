/// A factor used many times, packed once as a kernel's tiles read it.
#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

#include <tessera/core/buffer.hpp>
#include <tessera/kernels/gemm/gemm.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

/// `f(std::type_identity<K>)` for the first kernel of the list that packs and that `wanted` says yes to.
template <class TA, class TB, class T, class... Kernels, class Wanted, class F>
bool with_packing_kernel(KernelList<Kernels...>, Wanted&& wanted, F&& f) {
  const auto visit = [&]<class K>(std::type_identity<K> kernel) {
    if constexpr (compiled_isa.has(K::isa) && requires { typename K::template Blocked<TA, TB, T>; })
      if (wanted(K::name, K::isa)) {
        f(kernel);
        return true;
      }
    return false;
  };
  return (visit(std::type_identity<Kernels>()) || ...);
}

template <class T>
concept PackedBytes = std::integral<T> && sizeof(T) == 1;

/// The product of `args` with its packed factor by the kernel of the name that packed it.
template <class TA, class TB, class T>
void multiply_packed(Context& ctx, std::string_view kernel, const GemmArgs<TA, TB, T>& args) {
  with_packing_kernel<TA, TB, T>(
      GemmKernels<TA, TB, T>(), [&](std::string_view name, Isa) { return name == kernel; },
      [&]<class K>(std::type_identity<K>) {
        const auto entry = kernel_entry<K, GemmArgs<TA, TB, T>>();
        if (gemm_alone(ctx, args))
          launch(ctx, entry, args, args.m(), args.m());
        else
          gemm_in_parallel<typename K::template Blocked<TA, TB, T>>(ctx, entry, args);
      });
}

TESSERA_SHARED(void multiply_packed<float>(Context&, std::string_view, const GemmArgs<float, float, float>&));
TESSERA_SHARED(void multiply_packed<double>(Context&, std::string_view, const GemmArgs<double, double, double>&));

/// What products with a packed factor of T are summed in.
template <class T>
using packed_sum_t =
    std::conditional_t<std::integral<T>, std::int32_t, std::conditional_t<std::same_as<T, double>, double, float>>;

}  // namespace detail

/// B (K,N) of float, double, bf16, int8 or uint8, packed for the best kernel of this processor, or for the one that the
/// context forces. About as large as B: bytes(); larger only where the processor multiplies what is wider (bf16 as f32
/// without AVX512_BF16 and AMX, bytes as 16-bit pairs without VNNI and AMX).
template <class T>
requires std::floating_point<T> || std::same_as<T, bf16> || detail::PackedBytes<T>
class PackedFactor {
 public:
  using Sum = detail::packed_sum_t<T>;

  PackedFactor() = default;
  /// O(K*N). `zero`: the zero point of bytes. Throws unsupported_error if the forced kernel packs nothing or is not
  /// there, and for a zero point out of range.
  PackedFactor(const Context& ctx, MatrixView<const T> B, std::int32_t zero = 0)
      : rows_(B.rows()), cols_(B.cols()), zero_(zero) {
    if constexpr (detail::PackedBytes<T>) detail::check_zero_point<T>("B", zero);
    const std::string_view forced = ctx.forced("gemm");
    std::string names;
    const auto wanted = [&](std::string_view name, Isa isa) {
      if (active_isa().has(isa)) names += detail::concat(' ', name);
      return active_isa().has(isa) && (forced.empty() || name == forced);
    };
    const bool found = visit<T>(wanted, [&]<class K>(std::type_identity<K>) {
      using Blocked = typename K::template Blocked<T, T, Sum>;
      using Element = typename Blocked::PackedB;
      kernel_ = K::name;
      if (B.empty()) return;
      memory_ = Buffer<std::byte>(Blocked::whole_elements(cols_, rows_) * static_cast<Index>(sizeof(Element)));
      GemmArgs<T, T, Sum> args;
      args.A = {nullptr, 1, rows_};
      args.B = B;
      args.C = {nullptr, 1, cols_};
      if constexpr (detail::PackedBytes<T>) args.zero_b = zero;
      Blocked::pack_whole(args, reinterpret_cast<Element*>(memory_.data()));
    });
    if (!found)
      throw unsupported_error(
          detail::concat("tessera: forced kernel ", forced, " packs nothing here; expected one of", names));
  }

  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  std::size_t bytes() const { return memory_.bytes(); }
  std::string_view kernel() const { return kernel_; }
  ByteRange byte_range() const { return {memory_.begin(), memory_.end()}; }

  /// C (M,N) = alpha*A (M,K)*B + beta*C, as gemm does; with an epilogue: gemm/epilogue.hpp.
  void multiply(Context& ctx, Sum alpha, MatrixView<const T> A, Sum beta, MatrixView<Sum> C,
                GemmFinish<Sum> finish = {}) const requires(!detail::PackedBytes<T>) {
    product(ctx, alpha, A, beta, C, 0, finish);
  }
  /// C (M,N) = alpha*(A - zero)*(B - its zero point) + beta*C modulo 2^32, A (M,K) of int8 or uint8.
  template <class TA>
  requires detail::PackedBytes<std::remove_const_t<TA>> && detail::PackedBytes<T>
  void multiply(Context& ctx, std::int32_t alpha, MatrixView<TA> A, std::int32_t beta, MatrixView<std::int32_t> C,
                std::int32_t zero = 0, GemmFinish<std::int32_t> finish = {}) const {
    detail::check_zero_point<std::remove_const_t<TA>>("A", zero);
    product(ctx, alpha, MatrixView<const std::remove_const_t<TA>>(A), beta, C, zero, finish);
  }

  /// B itself to `out`.
  void unpack(MatrixView<T> out) const requires std::floating_point<T> {
    if (out.empty()) return;
    const T* packed = reinterpret_cast<const T*>(memory_.data());
    visit<T>([&](std::string_view name, Isa) { return name == kernel_; },
             [&]<class K>(std::type_identity<K>) {
               using Blocked = typename K::template Blocked<T, T, T>;
               const Index nb = Blocked::n_block(cols_), kb = Blocked::k_block(rows_), nr = Blocked::tiling.nr;
               for (Index i = 0; i < rows_; ++i)
                 for (Index j = 0; j < cols_; ++j) {
                   const Index jc = j / nb * nb, pc = i / kb * kb, kp = Blocked::packed_k(std::min(kb, rows_ - pc));
                   out(i, j) = packed[Blocked::whole_offset(cols_, rows_, jc, pc) + (j - jc) / nr * nr * kp +
                                      (i - pc) * nr + (j - jc) % nr];
                 }
             });
  }

 private:
  template <class TA, class Wanted, class F>
  static bool visit(Wanted&& wanted, F&& f) {
    return detail::with_packing_kernel<TA, T, Sum>(GemmKernels<TA, T, Sum>(), wanted, f);
  }

  template <class TA>
  void product(Context& ctx, Sum alpha, MatrixView<const TA> A, Sum beta, MatrixView<Sum> C,
               [[maybe_unused]] std::int32_t zero, const GemmFinish<Sum>& finish) const {
    if (A.cols() != rows_ || C.rows() != A.rows() || C.cols() != cols_)
      throw shape_error(detail::concat(
          "tessera: gemm of (", detail::shape_text(A.rows(), A.cols()), ") * (packed ",
          detail::shape_text(rows_, cols_), ") into (", detail::shape_text(C.rows(), C.cols()), "): expected ",
          detail::shape_text(A.rows(), rows_), " into ", detail::shape_text(A.rows(), cols_)));
    if (C.empty()) return;
    if (rows_ == 0 || alpha == Sum(0)) {
      for (Index i = 0; i < C.rows(); ++i)
        for (Index j = 0; j < C.cols(); ++j) C(i, j) = beta == Sum(0) ? Sum(0) : detail::scaled(beta, C(i, j));
      if (finish.run != nullptr) finish(C, 0, 0);
      return;
    }
    auto args = detail::gemm_args<TA, T, Sum>(alpha, A, {nullptr, rows_, cols_}, beta, C);
    args.packed_whole = memory_.data();
    args.finish = finish;
    if constexpr (detail::PackedBytes<T>) {
      args.zero_a = zero;
      args.zero_b = zero_;
    }
    detail::multiply_packed(ctx, kernel_, args);
  }

  Buffer<std::byte> memory_;
  Index rows_ = 0, cols_ = 0;
  std::int32_t zero_ = 0;
  std::string_view kernel_;
};

/// Weights W (M,K) of bf16, int8 or uint8 as the right factor of Y (N,M) = X (N,K) * transpose(W):
///   const auto packed = pack(W);  packed.multiply(ctx, 1, X, 0, Y);
/// O(M*K); packed.bytes() is what it takes.
template <class T>
requires std::same_as<std::remove_const_t<T>, bf16> || detail::PackedBytes<std::remove_const_t<T>>
    PackedFactor<std::remove_const_t<T>> pack(MatrixView<T> W, std::int32_t zero = 0, const Context& ctx = {}) {
  return {ctx, W.transposed(), zero};
}

}  // namespace tessera::inline TESSERA_ABI
