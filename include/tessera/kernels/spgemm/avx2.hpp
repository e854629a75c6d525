/// Eight keys of the hash table at once, and POPCNT, TZCNT for bitmaps.
#pragma once

#include <tessera/kernels/spgemm/args.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)
namespace detail::spgemm_avx2 {

inline unsigned match(const std::int32_t* keys, std::int32_t key) {
  const __m256i eight = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(keys));
  const __m256i same = _mm256_cmpeq_epi32(eight, _mm256_set1_epi32(key));
  return static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(same)));
}
inline unsigned match(const std::int64_t* keys, std::int64_t key) {
  const __m256i all = _mm256_set1_epi64x(key);
  const __m256i low = _mm256_cmpeq_epi64(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(keys)), all);
  const __m256i high = _mm256_cmpeq_epi64(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(keys + 4)), all);
  return static_cast<unsigned>(_mm256_movemask_pd(_mm256_castsi256_pd(low)) |
                               (_mm256_movemask_pd(_mm256_castsi256_pd(high)) << 4));
}

template <class I>
inline unsigned match(const I* keys, I key) {  // of other indices
  unsigned same = 0;
  for (unsigned s = 0; s < 8; ++s) same |= static_cast<unsigned>(keys[s] == key) << s;
  return same;
}

#include <tessera/kernels/spgemm/hash_table.inl>
#include <tessera/kernels/spgemm/moved.inl>
#include <tessera/kernels/spgemm/rows.inl>

}  // namespace detail::spgemm_avx2
TESSERA_TARGET_END

struct SpgemmAvx2 : detail::spgemm_avx2::SpgemmByRows {
  static constexpr std::string_view name = "spgemm:avx2";
  static constexpr Isa isa = Isa::avx2;
};

}  // namespace tessera::inline TESSERA_ABI
#endif
