/// Block-diagonal stages whose blocks are quantized, multiplied without decoding more than a slab of a block.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/kernels/monarch/avx2.hpp>
#include <tessera/kernels/monarch/coded_args.hpp>
#include <tessera/kernels/monarch/xsimd.hpp>

namespace tessera::inline TESSERA_ABI {

#if TESSERA_X86
TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)
namespace detail::monarch_avx2 {

/// Vector I of the two that 16 codes make.
template <int Bits>
struct Decode {
  template <Index I>
  static TESSERA_INLINE __m256 vector(const std::uint8_t* p) {
    const auto* eight = reinterpret_cast<const __m128i*>(Bits == 8 ? p + 8 * I : p);
    __m256i code = _mm256_cvtepi8_epi32(_mm_loadl_epi64(eight));
    if constexpr (Bits == 4)
      code = I == 0 ? _mm256_srai_epi32(_mm256_slli_epi32(code, 28), 28) : _mm256_srai_epi32(code, 4);
    return _mm256_cvtepi32_ps(code);
  }
};

#include <tessera/kernels/monarch/coded.inl>
}  // namespace detail::monarch_avx2
TESSERA_TARGET_END

struct CodedStageAvx2 : detail::monarch_avx2::CodedStageKernel {
  static constexpr std::string_view name = "coded_stage:avx2";
  static constexpr Isa isa = Isa::avx2;
};
#endif

namespace detail::monarch_xsimd {

template <int Bits>
struct Decode {
  using V = Vec<float>;
  template <Index I>
  static V::Reg vector(const std::uint8_t* p) {
    alignas(64) float values[static_cast<std::size_t>(V::lanes)];
    for (Index i = 0; i < V::lanes; ++i) values[i] = static_cast<float>(CodedBlocks<Bits>::code(p, I * V::lanes + i));
    return V::load(values);
  }
};
template <std::size_t Lanes>
Vec<float>::Reg sums(const Vec<float>::Reg (&of)[Lanes]) {
  alignas(64) float each[Lanes];
  for (std::size_t l = 0; l < Lanes; ++l) each[l] = xsimd::hadd(of[l]);
  return Vec<float>::load(each);
}

#include <tessera/kernels/monarch/coded.inl>
}  // namespace detail::monarch_xsimd

struct CodedStageXsimd : detail::monarch_xsimd::CodedStageKernel {
  static constexpr std::string_view name = "coded_stage:xsimd";
  static constexpr Isa isa = Isa::portable;
};

/// The obvious loop.
struct CodedStageRef {
  static constexpr std::string_view name = "coded_stage:ref";
  static constexpr Isa isa = Isa::portable;
  template <int Bits>
  static const char* reject(const CodedStageArgs<Bits>&) {
    return nullptr;
  }
  template <int Bits>
  static void run(const CodedStageArgs<Bits>& a, RowRange blocks) noexcept {
    for (Index b = blocks.begin; b < blocks.end; ++b)
      for (Index i = 0; i < a.m(); ++i)
        for (Index j = 0; j < a.n(); ++j) {
          float sum = 0;
          for (Index k = 0; k < a.k(); ++k)
            sum += (a.op == Op::none ? a.A.value(b, i, k) : a.A.value(b, k, i)) * a.B(b, k, j);
          a.C(b, i, j) = a.beta == 0 ? a.alpha * sum : a.alpha * sum + a.beta * a.C(b, i, j);
        }
  }
};

#if TESSERA_X86
using CodedStageKernels = KernelList<CodedStageAvx2, CodedStageXsimd, CodedStageRef>;
#else
using CodedStageKernels = KernelList<CodedStageXsimd, CodedStageRef>;
#endif

/// C[b] = alpha*op(A[b])*B[b] + beta*C[b], C and B as block_stage takes them. Products are of decoded values in f32;
/// what is decoded at a time stays in the caches and a vector of one to three columns multiplies codes in registers.
/// Throws shape_error.
template <int Bits>
void coded_stage(Context& ctx, Op op, float alpha, const CodedBlocks<Bits>& A, View<const float, 3> B,  // (blocks,K,N)
                 float beta, View<float, 3> C) {                                                        // (blocks,M,N)
  const Index m = op == Op::none ? A.rows : A.cols, k = op == Op::none ? A.cols : A.rows;
  if (B.extent(0) != A.blocks || C.extent(0) != A.blocks || C.extent(1) != m || B.extent(1) != k ||
      C.extent(2) != B.extent(2))
    throw shape_error(detail::concat("tessera: coded_stage of (", A.blocks, "x", m, "x", k, ") * (", B.extent(0), "x",
                                     B.extent(1), "x", B.extent(2), ") into (", C.extent(0), "x", C.extent(1), "x",
                                     C.extent(2), "): expected (blocks,M,K) * (blocks,K,N) into (blocks,M,N)"));
  if (C.empty()) return;
  if (k == 0 || alpha == 0) {
    const MatrixView<const float> nothing(nullptr, m, 0), none(nullptr, 0, C.extent(2));
    for (Index b = 0; b < A.blocks; ++b) gemm(ctx, 0.0f, nothing, none, beta, C[b]);
    return;
  }
  CodedStageArgs<Bits> args;
  args.op = op;
  args.alpha = alpha;
  args.beta = beta;
  args.A = A;
  args.B = B;
  args.C = C;
  const Index work = std::max<Index>(1, m * C.extent(2) * k);
  const Index grain = ((Index{1} << 15) / work / 16 + 1) * 16;
  launch(ctx, CodedStageKernels::select(ctx, args), args, A.blocks, ctx.concurrency() == 1 ? A.blocks : grain);
}

}  // namespace tessera::inline TESSERA_ABI
