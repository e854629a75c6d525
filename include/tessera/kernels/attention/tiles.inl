// The attention of every lane, over simd::Vec. Included once inside each lane's namespace and target region, because
// templates take the target of the place where they are written. A piece with many rows and one with few go different
// ways: tiles_many.inl, tiles_few.inl.

/// Rows (vectors of them) and keys or channels that one register tile holds.
template <class V, int NR>
struct AttentionShape {
  static constexpr bool wide = sizeof(typename V::value_type) * V::width == 64;  // 32 registers
  static constexpr int most_rows = wide ? 4 : 2;
  static constexpr int cols = wide ? (NR == 1 ? 12 : 24 / NR) : (NR == 1 ? 10 : 6);
  static constexpr Index few_rows = wide ? 8 : 4;  // at most so many rows go along d
};

/// One V of a register tile. Arrays of V are zeroed by a loop first, which g++ 12 does not unroll: the tile then stays
/// in memory, and few rows take half as long again.
template <class V>
struct AttentionRegister {
  decltype(V::v) v;
  operator V() const {  // NOLINT(google-explicit-constructor): it is one
    if constexpr (requires(const AttentionRegister& x) { V(x.v, 0); })
      return V(v, 0);
    else
      return V(v);
  }
  AttentionRegister& operator=(const V& x) {
    v = x.v;
    return *this;
  }
};

template <class>
struct PairProductsFor : PairProducts {};

#include <tessera/kernels/attention/weight_exp.inl>

/// What both ways share: the types, and where row r of a kv head is read and written.
template <class V>
struct AttentionRows {
  using T = typename V::value_type;
  using Args = AttentionArgs<T>;
  static constexpr Index W = V::width;
  static constexpr Index tile = Args::tile_tokens;
  static constexpr Index block = Args::block_rows;
  static constexpr T infinity = std::numeric_limits<T>::infinity();
  static constexpr T lowest = std::numeric_limits<T>::lowest();

  static const T* query(const Args& a, Index kv_head, Index r) {
    return a.Q.data() + (kv_head * a.group + r % a.group) * a.Q.stride(0) + r / a.group * a.Q.stride(1);
  }
  static T* result(const Args& a, Index kv_head, Index r, Index split) {
    return a.out.data() + split * a.out_split + (kv_head * a.group + r % a.group) * a.out.stride(0) +
           r / a.group * a.out.stride(1);
  }
  /// Where `of` (heads, n) has row r.
  static T& statistic(const Args& a, const View<T, 2>& of, Index kv_head, Index r, Index split) {
    return of
        .data()[split * a.lse_split + (kv_head * a.group + r % a.group) * of.stride(0) + r / a.group * of.stride(1)];
  }
  /// `surplus` is the sum of weight · (score - top).
  static void put_statistics(const Args& a, Index kv_head, Index r, Index split, T top, T total, T surplus) {
    if (a.lse.data() != nullptr)
      statistic(a, a.lse, kv_head, r, split) = total == 0 ? -infinity : top + std::log(total);
    if (a.entropy.data() != nullptr)
      statistic(a, a.entropy, kv_head, r, split) = total == 0 ? T(0) : std::log(total) - surplus / total;
  }
};

#include <tessera/kernels/attention/tiles_few.inl>
#include <tessera/kernels/attention/tiles_many.inl>

template <class V>
struct AttentionTiles {
  using Rows = AttentionRows<V>;
  using T = typename Rows::T;
  using Args = typename Rows::Args;
  static constexpr Index W = Rows::W, tile = Rows::tile, block = Rows::block;

  static std::size_t scratch(const Args& a) {  // K tile, V tile, Q, out, scores, rows' state
    return static_cast<std::size_t>((tile + block) * (a.d + a.dv()) + 2 * block * W + block * tile + 5 * block) *
           sizeof(T);
  }

  static constexpr Index few_rows = AttentionShape<V, 1>::few_rows;

  /// Where no piece has more rows.
  template <class IntegerDots>
  static void run_few(const Args& a, RowRange pieces) noexcept {
    T* const k = reinterpret_cast<T*>(a.scratch_of(pieces.worker));
    for (Index p = pieces.begin; p < pieces.end; ++p)
      AttentionFewRows<V, IntegerDots>::run(a, a.piece(p), k, k + tile * a.d);
  }
  /// `scratch` is larger by Integers::floats(d).
  template <class Integers = NoIntegerTiles>
  static void run_many(const Args& a, RowRange pieces) noexcept {
    T* const k = reinterpret_cast<T*>(a.scratch_of(pieces.worker));
    for (Index p = pieces.begin; p < pieces.end; ++p)
      AttentionManyRows<V, Integers>::run(a, a.piece(p), k, k + tile * a.d);
  }
  static void run(const Args& a, RowRange pieces) noexcept {
    T* const k = reinterpret_cast<T*>(a.scratch_of(pieces.worker));
    T* const v = k + tile * a.d;
    for (Index p = pieces.begin; p < pieces.end; ++p) {
      const auto piece = a.piece(p);
      if (piece.rows <= few_rows)
        AttentionFewRows<V>::run(a, piece, k, v);
      else
        AttentionManyRows<V>::run(a, piece, k, v);
    }
  }
};
