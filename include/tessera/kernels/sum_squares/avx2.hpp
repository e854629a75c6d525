/// 4 doubles at a time; memory is the limit.
#pragma once

#include <tessera/kernels/sum_squares/args.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)

namespace tessera::inline TESSERA_ABI {

struct SumSquaresAvx2 {
  static constexpr std::string_view name = "sum_squares:avx2";
  static constexpr Isa isa = Isa::avx2;
  template <class T>
  static const char* reject(const SumSquaresArgs<T>& a) {
    return a.x.stride(0) == 1 ? nullptr : "elements are not contiguous";
  }
  template <class T>
  static void run(const SumSquaresArgs<T>& a, RowRange pieces) noexcept {
    for (Index c = pieces.begin; c < pieces.end; ++c)
      a.partial[c] = sum(a.x.data() + a.begin(c), a.end(c) - a.begin(c));
  }

 private:
  static __m256d load(const float* p) { return _mm256_cvtps_pd(_mm_loadu_ps(p)); }
  static __m256d load(const double* p) { return _mm256_loadu_pd(p); }

  template <class T>
  static double sum(const T* x, Index n) {
    __m256d s0 = _mm256_setzero_pd(), s1 = s0, s2 = s0, s3 = s0;
    Index i = 0;
    for (; i + 16 <= n; i += 16) {
      const __m256d a = load(x + i), b = load(x + i + 4), c = load(x + i + 8), d = load(x + i + 12);
      s0 = _mm256_fmadd_pd(a, a, s0);
      s1 = _mm256_fmadd_pd(b, b, s1);
      s2 = _mm256_fmadd_pd(c, c, s2);
      s3 = _mm256_fmadd_pd(d, d, s3);
    }
    for (; i + 4 <= n; i += 4) {
      const __m256d a = load(x + i);
      s0 = _mm256_fmadd_pd(a, a, s0);
    }
    double all[4];
    _mm256_storeu_pd(all, _mm256_add_pd(_mm256_add_pd(s0, s1), _mm256_add_pd(s2, s3)));
    double total = 0;
    for (double one : all) total += one;
    for (; i < n; ++i) total += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    return total;
  }
};

}  // namespace tessera::inline TESSERA_ABI

TESSERA_TARGET_END

#endif
