/// 8 doubles at a time; memory is the limit.
#pragma once

#include <tessera/kernels/sum_squares/args.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)

namespace tessera::inline TESSERA_ABI {

struct SumSquaresAvx512 {
  static constexpr std::string_view name = "sum_squares:avx512";
  static constexpr Isa isa = Isa::avx512;
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
  static __m512d load(const float* p) { return _mm512_cvtps_pd(_mm256_loadu_ps(p)); }
  static __m512d load(const double* p) { return _mm512_loadu_pd(p); }

  template <class T>
  static double sum(const T* x, Index n) {
    __m512d s0 = _mm512_setzero_pd(), s1 = s0, s2 = s0, s3 = s0;
    Index i = 0;
    for (; i + 32 <= n; i += 32) {
      const __m512d a = load(x + i), b = load(x + i + 8), c = load(x + i + 16), d = load(x + i + 24);
      s0 = _mm512_fmadd_pd(a, a, s0);
      s1 = _mm512_fmadd_pd(b, b, s1);
      s2 = _mm512_fmadd_pd(c, c, s2);
      s3 = _mm512_fmadd_pd(d, d, s3);
    }
    for (; i + 8 <= n; i += 8) {
      const __m512d a = load(x + i);
      s0 = _mm512_fmadd_pd(a, a, s0);
    }
    double all[8];
    _mm512_storeu_pd(all, _mm512_add_pd(_mm512_add_pd(s0, s1), _mm512_add_pd(s2, s3)));
    double total = 0;
    for (double one : all) total += one;
    for (; i < n; ++i) total += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    return total;
  }
};

}  // namespace tessera::inline TESSERA_ABI

TESSERA_TARGET_END

#endif
