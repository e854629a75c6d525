/// Small products with the register tiles of gemm, operands in place.
#pragma once

#include <algorithm>
#include <utility>

#include <tessera/kernels/batched/args.hpp>
#include <tessera/kernels/gemm/avx2.hpp>
#include <tessera/kernels/gemm/avx512.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

namespace detail {

inline constexpr Index batched_most = 64;  // rows, columns and terms of a small product

/// `Ops<T>` is a lane's FmaOps.
template <template <class> class Ops>
struct BatchedTiles {
  template <class T>
  static const char* reject(const BatchedArgs<T>& a) {
    if (std::max({a.m(), a.n(), a.k()}) > batched_most) return "more than 64 rows, columns or terms";
    if (a.A.stride(1) != 1 && a.A.stride(2) != 1) return "neither rows nor columns of A are contiguous";
    if (a.B.stride(2) != 1 || a.C.stride(2) != 1) return "rows of B or C are not contiguous";
    return nullptr;
  }
  template <class T>
  static std::size_t scratch(const BatchedArgs<T>& a) {
    return in_place(a) ? 0 : static_cast<std::size_t>(a.k() * padded<T>(a.n())) * sizeof(T);
  }
  template <class T>
  static void run(const BatchedArgs<T>& a, RowRange items) noexcept {
    using O = Ops<T>;
    const Index m = a.m(), n = a.n(), k = a.k(), rs = a.A.stride(1), cs = a.A.stride(2), crs = a.C.stride(1);
    const Index tiles = (m + O::mr - 1) / O::mr, each = m / tiles, more = m % tiles;
    T* room = reinterpret_cast<T*>(a.scratch_of(items.worker));
    // Tiles load whole vectors: a narrower B is read in place as long as that stays among its matrices.
    const Index beyond = (k - 1) * a.B.stride(1) + padded<T>(n);
    const Index end = (a.B.extent(0) - 1) * a.B.stride(0) + (k - 1) * a.B.stride(1) + n;
    for (Index item = items.begin; item < items.end; ++item) {
      const T* first = a.A.data() + item * a.A.stride(0);
      const T* b = a.B.data() + item * a.B.stride(0);
      T* c = a.C.data() + item * a.C.stride(0);
      Index ldb = a.B.stride(1);
      if (!in_place(a) && (a.B.stride(1) < 0 || item * a.B.stride(0) + beyond > end)) {
        ldb = padded<T>(n);
        for (Index i = 0; i < k; ++i)
          for (Index j = 0; j < n; ++j) room[i * ldb + j] = b[i * a.B.stride(1) + j];
        b = room;
      }
      for (Index j = 0; j < n; j += O::nr) {
        const Index cols = std::min(O::nr, n - j);
        for (Index t = 0, i = 0; t < tiles; ++t) {
          const Index r = each + (t < more ? 1 : 0);
          O::tile(a, r, cols, k, cs == 1 ? TileA<T>{first + i * rs, rs, 1} : TileA<T>{first + i, 1, cs}, b + j, ldb,
                  a.beta, c + i * crs + j, crs);
          i += r;
        }
      }
    }
  }

 private:
  template <class T>
  static Index padded(Index n) {
    constexpr Index lanes = Ops<T>::nr / 2;
    return (n + lanes - 1) / lanes * lanes;
  }
  template <class T>
  static bool in_place(const BatchedArgs<T>& a) {
    return a.n() == padded<T>(a.n());
  }
};

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
/// 4 x 4 of f32: a matrix is one register, a row of C a quarter of it.
struct Batched4x4 {
  static void run(const float* a, Index a_next, const float* b, Index b_next, float* c, Index c_next, Index count,
                  float alpha, float beta) noexcept {
    const __m512 alphas = _mm512_set1_ps(alpha), betas = _mm512_set1_ps(beta);
    for (Index i = 0; i < count; ++i, a += a_next, b += b_next, c += c_next) {
      const __m512 A = _mm512_loadu_ps(a);
      __m512 even = _mm512_mul_ps(_mm512_permute_ps(A, 0x00), _mm512_broadcast_f32x4(_mm_loadu_ps(b)));
      __m512 odd = _mm512_mul_ps(_mm512_permute_ps(A, 0x55), _mm512_broadcast_f32x4(_mm_loadu_ps(b + 4)));
      even = _mm512_fmadd_ps(_mm512_permute_ps(A, 0xaa), _mm512_broadcast_f32x4(_mm_loadu_ps(b + 8)), even);
      odd = _mm512_fmadd_ps(_mm512_permute_ps(A, 0xff), _mm512_broadcast_f32x4(_mm_loadu_ps(b + 12)), odd);
      __m512 sum = _mm512_mul_ps(alphas, _mm512_add_ps(even, odd));
      if (beta != 0.0f) sum = _mm512_fmadd_ps(betas, _mm512_loadu_ps(c), sum);
      _mm512_storeu_ps(c, sum);
    }
  }
};
namespace batched_avx512 {
using dense_avx512::Vec;
#include <tessera/kernels/batched/square.inl>
}  // namespace batched_avx512
TESSERA_TARGET_END

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)
/// The same as two registers of two rows.
struct Batched4x4Halves {
  static void run(const float* a, Index a_next, const float* b, Index b_next, float* c, Index c_next, Index count,
                  float alpha, float beta) noexcept {
    const __m256 alphas = _mm256_set1_ps(alpha), betas = _mm256_set1_ps(beta);
    for (Index i = 0; i < count; ++i, a += a_next, b += b_next, c += c_next) {
      const __m256 B[4] = {line(b), line(b + 4), line(b + 8), line(b + 12)};
      __m256 top = _mm256_mul_ps(alphas, rows(_mm256_loadu_ps(a), B));
      __m256 bottom = _mm256_mul_ps(alphas, rows(_mm256_loadu_ps(a + 8), B));
      if (beta != 0.0f) {
        top = _mm256_fmadd_ps(betas, _mm256_loadu_ps(c), top);
        bottom = _mm256_fmadd_ps(betas, _mm256_loadu_ps(c + 8), bottom);
      }
      _mm256_storeu_ps(c, top);
      _mm256_storeu_ps(c + 8, bottom);
    }
  }

 private:
  static TESSERA_INLINE __m256 line(const float* b) { return _mm256_broadcast_ps(reinterpret_cast<const __m128*>(b)); }
  static TESSERA_INLINE __m256 rows(__m256 A, const __m256 (&B)[4]) {
    __m256 sum = _mm256_mul_ps(_mm256_permute_ps(A, 0x00), B[0]);
    sum = _mm256_fmadd_ps(_mm256_permute_ps(A, 0x55), B[1], sum);
    sum = _mm256_fmadd_ps(_mm256_permute_ps(A, 0xaa), B[2], sum);
    return _mm256_fmadd_ps(_mm256_permute_ps(A, 0xff), B[3], sum);
  }
};
namespace batched_avx2 {
using dense_avx2::Vec;
#include <tessera/kernels/batched/square.inl>

#include <tessera/kernels/batched/fixed.inl>
}  // namespace batched_avx2
TESSERA_TARGET_END

}  // namespace detail

/// 16 columns and terms of f32, 8 of f64.
struct BatchedAvx512Square : detail::batched_avx512::SquareKernel {
  static constexpr std::string_view name = "gemm_batched:avx512_square";
  static constexpr Isa isa = Isa::avx512;
};
/// 8 columns and terms of f32, 4 of f64.
struct BatchedAvx2Square : detail::batched_avx2::SquareKernel {
  static constexpr std::string_view name = "gemm_batched:avx2_square";
  static constexpr Isa isa = Isa::avx2;
};

namespace detail {
/// 4 x 4 matrices of f32, rows one after another.
template <class Loop>
struct QuadsKernel {
  template <class T>
  static const char* reject(const BatchedArgs<T>& a) {
    if (sizeof(T) != 4 || a.m() != 4 || a.n() != 4 || a.k() != 4) return "not 4x4 of f32";
    return plain(a.A) && plain(a.B) && plain(a.C) ? nullptr : "rows are not one after another";
  }
  template <class T>
  static void run(const BatchedArgs<T>& a, RowRange items) noexcept {
    if constexpr (sizeof(T) == 4) {
      const Index i = items.begin;
      Loop::run(a.A.data() + i * a.A.stride(0), a.A.stride(0), a.B.data() + i * a.B.stride(0), a.B.stride(0),
                a.C.data() + i * a.C.stride(0), a.C.stride(0), items.end - i, a.alpha, a.beta);
    }
  }

 private:
  template <class V>
  static bool plain(const V& v) {
    return v.stride(1) == 4 && v.stride(2) == 1;
  }
};
}  // namespace detail

struct BatchedAvx512Quads : detail::QuadsKernel<detail::Batched4x4> {
  static constexpr std::string_view name = "gemm_batched:avx512_4x4";
  static constexpr Isa isa = Isa::avx512;
};
struct BatchedAvx2Quads : detail::QuadsKernel<detail::Batched4x4Halves> {
  static constexpr std::string_view name = "gemm_batched:avx2_4x4";
  static constexpr Isa isa = Isa::avx2;
};

/// A square A of 16, 32 or 64 rows, of f64 8 too, and whole pairs of vectors of columns.
struct BatchedAvx2Fixed : detail::batched_avx2::FixedKernel {
  static constexpr std::string_view name = "gemm_batched:avx2_fixed";
  static constexpr Isa isa = Isa::avx2;
};

struct BatchedAvx512 : detail::BatchedTiles<detail::gemm_avx512::Ops> {
  static constexpr std::string_view name = "gemm_batched:avx512";
  static constexpr Isa isa = Isa::avx512;
};
struct BatchedAvx2 : detail::BatchedTiles<detail::gemm_avx2::Ops> {
  static constexpr std::string_view name = "gemm_batched:avx2";
  static constexpr Isa isa = Isa::avx2;
};

}  // namespace tessera::inline TESSERA_ABI
#endif
