/// What attention, scorers and merges read of a cache.
#pragma once

#include <cstddef>

#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kernels/attention/args.hpp>
#include <tessera/kernels/attention/unpack/list.hpp>
#include <tessera/kv/codecs/codec.hpp>
#include <tessera/kv/row_math.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// For each kv head its own tokens, in the order of their positions, whatever holds them.
class KvReadable {
 public:
  virtual ~KvReadable() = default;

  Index kv_heads() const { return kv_heads_; }
  Index head_dim() const { return head_dim_; }
  /// The position of the next token.
  Index next_position() const { return next_; }
  /// Tokens held by a kv head.
  virtual Index size(Index kv_head) const = 0;
  /// Tokens held by all kv heads.
  Index tokens() const {
    Index total = 0;
    for (Index h = 0; h < kv_heads_; ++h) total += size(h);
    return total;
  }
  /// Of token j of a kv head; ascending in j. Bounds are not checked.
  virtual Index position(Index kv_head, Index j) const = 0;
  /// How many tokens of a kv head stand at positions up to `last`.
  virtual Index tokens_up_to(Index kv_head, Index last) const = 0;
  /// Logarithms of how many tokens each token of a kv head stands for since a merge, or null where each stands for one;
  /// attention adds them to the tokens' scores.
  virtual const float* count_biases(Index kv_head) const noexcept = 0;
  float count_bias(Index kv_head, Index j) const noexcept { return counted(kv_head) ? count_biases(kv_head)[j] : 0.0f; }
  /// Whether any token of a kv head stands for other than one.
  bool counted(Index kv_head) const noexcept { return count_biases(kv_head) != nullptr; }

  /// Rows [begin, begin + count) of a kv head as floats, in place or decoded into scratch (count, d).
  virtual const float* tile(KvPart part, Index kv_head, Index begin, Index count, float* scratch, Index& stride,
                            Unpack unpack) const noexcept = 0;
  /// Rows from `begin` on as they are coded, for kernels that widen them in registers.
  virtual TokenCodes codes(KvPart part, Index kv_head, Index begin) const noexcept = 0;
  /// A tile as a view.
  MatrixView<const float> rows(KvPart part, Index kv_head, Index begin, Index count, float* scratch,
                               Unpack unpack) const noexcept {  // (count, d)
    Index stride = 0;
    const float* const first = tile(part, kv_head, begin, count, scratch, stride, unpack);
    return {first, {count, head_dim_}, {stride, 1}};
  }
  /// The same as contiguous rows in `to`.
  void copy_rows(KvPart part, Index kv_head, Index begin, Index count, float* to, Unpack unpack) const noexcept {
    Index stride = 0;
    const float* const first = tile(part, kv_head, begin, count, to, stride, unpack);
    detail::gather_rows(first, stride, count, head_dim_, to);
  }
  const float* key_tile(Index kv_head, Index begin, Index count, float* scratch, Index& stride,
                        Unpack unpack) const noexcept {
    return tile(KvPart::keys, kv_head, begin, count, scratch, stride, unpack);
  }
  const float* value_tile(Index kv_head, Index begin, Index count, float* scratch, Index& stride,
                          Unpack unpack) const noexcept {
    return tile(KvPart::values, kv_head, begin, count, scratch, stride, unpack);
  }
  TokenCodes key_codes(Index kv_head, Index begin) const noexcept { return codes(KvPart::keys, kv_head, begin); }
  TokenCodes value_codes(Index kv_head, Index begin) const noexcept { return codes(KvPart::values, kv_head, begin); }

  /// A head's leading tokens that attention reads as coordinates: see LatentRowStore. Keys and values alike, or one of
  /// the two. `latent_width` is the most coordinates of any head, 0 for none; shorter rows of a tile are padded with 0.
  virtual Index latent_tokens(Index kv_head) const noexcept = 0;
  virtual Index latent_width(KvPart part) const noexcept = 0;
  virtual const float* latent_tile(KvPart part, Index kv_head, Index begin, Index count, float* scratch, Index& stride,
                                   Index width, Unpack unpack) const noexcept = 0;
  virtual TokenCodes latent_codes(KvPart part, Index kv_head, Index begin, Index width) const noexcept = 0;
  virtual void absorb(Context& ctx, Index kv_head, MatrixView<const float> queries,  // (n, d)
                      MatrixView<float> out) const = 0;                              // (n, width)
  virtual void expand(Context& ctx, Index kv_head, MatrixView<const float> results,  // (n, width)
                      MatrixView<float> out) const = 0;                              // (n, d)

  /// The kernel that decodes tiles on this processor.
  static Unpack unpack_kernel(const Context& ctx) {
    UnpackArgs any;
    any.bits = 8;
    return UnpackKernels::select(ctx, any).run;
  }

 protected:
  KvReadable(Index kv_heads, Index head_dim) : kv_heads_(kv_heads), head_dim_(head_dim) {
    constexpr Index most = Index{1} << 24;  // so that bytes of 2^31 tokens have a number
    if (kv_heads < 1 || head_dim < 1 || kv_heads > most || head_dim > most)
      throw shape_error(tessera::detail::concat("tessera: a KV cache of ", kv_heads, " kv heads of ", head_dim,
                                                " channels; expected 1 to ", most, " of each"));
  }
  KvReadable(const KvReadable&) = default;
  KvReadable& operator=(const KvReadable&) = default;

  void move_next(Index next) { next_ = next; }

 private:
  Index kv_heads_, head_dim_, next_ = 0;
};

}  // namespace tessera::inline TESSERA_ABI::kv
