/// Blocks of tokens behind a table, shared between forks until one of them writes.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <tessera/kv/codecs/codec.hpp>
#include <tessera/kv/codecs/int8.hpp>
#include <tessera/kv/codecs/plain.hpp>
#include <tessera/kv/codecs/token_blocks.hpp>
#include <tessera/kv/row_math.hpp>
#include <tessera/kv/storage.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// W. Kwon et al., "Efficient Memory Management for Large Language Model Serving with PagedAttention" (SOSP 2023), §4.
/// A head's tokens in blocks of `Tokens`, all full but the last, and a table of pointers to them, counted: a copy or a
/// fork is a copy of the table. Up to a block a head is unused. Tiles that lie in one block are read in place, others
/// gathered, codes as codes, so that results are those of Contiguous to the bit; attention's tiles are 64 tokens. Kept
/// for comparison with Virtual, which needs no table.
/// Codecs whose tokens are coded each by itself (F32, F16, Bf16, Int8, the values of Kivi) are in blocks; whatever else
/// a codec holds, and positions after an eviction, is as in Contiguous. `bytes` counts blocks that others share, too.
/// There is no free list: blocks of one size are what an allocator keeps lists of.
template <Index Tokens>
requires(Tokens > 0) struct PagedBy {
  template <class T>
  using Array = Contiguous::Array<T>;
};
using Paged = PagedBy<64>;

/// `Rows` in blocks. Beside a RowStore, it takes rows of another as they are coded: take(other, begin, count).
template <RowStore Rows, Index Tokens>
class PagedRows {
 public:
  PagedRows(Rows empty, Index d) : empty_(std::move(empty)), d_(d) {}

  void append(const float* rows, Index count, Index stride) {
    fill(count, [&](Rows& block, Index done, Index some) { block.append(rows + done * stride, some, stride); });
  }
  const float* tile(Index begin, Index count, float* scratch, Index& stride, Unpack unpack) const noexcept {
    if (begin % Tokens + count <= Tokens) return block(begin).tile(begin % Tokens, count, scratch, stride, unpack);
    for (Index done = 0; done < count;) {
      const Index at = (begin + done) % Tokens, some = std::min(count - done, Tokens - at);
      float* const to = scratch + done * d_;
      const float* const from = block(begin + done).tile(at, some, to, stride, unpack);
      detail::gather_rows(from, stride, some, d_, to);
      done += some;
    }
    stride = d_;
    return scratch;
  }
  TokenCodes codes(Index begin) const noexcept requires requires(const Rows& rows) { rows.codes(begin); }
  {
    if (begin >= size_) return {};
    const Index count = std::min(AttentionArgs<float>::tile_tokens, size_ - begin);
    if (begin % Tokens + count > Tokens) return gathered(begin, count);
    TokenCodes codes = block(begin).codes(begin % Tokens);
    codes.count = std::min(codes.count, size_ - begin);  // a block that was truncated may still hold what went
    return codes;
  }
  void retain(std::span<const Index> kept) {
    const auto n = static_cast<Index>(kept.size());
    const auto old = [&](Index i) { return kept[static_cast<std::size_t>(i)]; };
    Index same = 0;
    while (same < n && old(same) == same) ++same;
    if (same == n) return truncate(n);
    PagedRows next(empty_, d_);
    next.size_ = same / Tokens * Tokens;
    next.blocks_.assign(blocks_.begin(), blocks_.begin() + same / Tokens);
    for (Index i = next.size_, run = 0; i < n; i += run) {
      const Index first = old(i);
      for (run = 1; i + run < n && old(i + run) == first + run && (first + run) % Tokens != 0;) ++run;
      next.fill(run, [&](Rows& to, Index done, Index some) { to.take(block(first), first % Tokens + done, some); });
    }
    *this = std::move(next);
  }
  void truncate(Index n) {
    size_ = std::min(n, size_);
    blocks_.resize(static_cast<std::size_t>((size_ + Tokens - 1) / Tokens));
  }
  void reserve(Index n) { blocks_.reserve(static_cast<std::size_t>((n + Tokens - 1) / Tokens)); }
  Index size() const { return size_; }
  std::size_t bytes() const {
    std::size_t total = blocks_.size() * (sizeof(blocks_[0]) + sizeof(Rows));
    for (const auto& one : blocks_) total += one->bytes();
    return total;
  }

 private:
  const Rows& block(Index token) const { return *blocks_[static_cast<std::size_t>(token / Tokens)]; }

  /// Codes of several blocks in one of this thread's, until it has gathered as many others as TileSource asks for.
  /// Without memory there are none, and they are read as numbers.
  TokenCodes gathered(Index begin, Index count) const noexcept {
    thread_local std::array<std::optional<Rows>, TileSource<float>::codes_alive> all;
    thread_local std::size_t last = 0;
    try {
      Rows& rows = all[++last % all.size()].emplace(empty_);
      rows.reserve(count);
      for (Index done = 0, some = 0; done < count; done += some) {
        const Index at = (begin + done) % Tokens;
        some = std::min(count - done, Tokens - at);
        rows.take(block(begin + done), at, some);
      }
      return rows.codes(0);
    } catch (const std::bad_alloc&) {
      return {};
    }
  }

  /// The last block, with room, of this store alone.
  Rows& open() {
    const Index filled = size_ % Tokens;
    if (filled == 0) {
      auto fresh = std::make_shared<Rows>(empty_);
      fresh->reserve(Tokens);
      return *blocks_.emplace_back(std::move(fresh));
    }
    auto& last = blocks_.back();
    if (last.use_count() > 1)
      last = std::make_shared<Rows>(*last);
    else
      std::atomic_thread_fence(std::memory_order_acquire);  // another fork's thread may just have let it go
    if (last->size() > filled) {
      last->truncate(filled);
      last->reserve(Tokens);
    }
    return *last;
  }
  template <class F>
  void fill(Index count, const F& add) {
    for (Index done = 0; done < count;) {
      Rows& last = open();
      const Index some = std::min(count - done, Tokens - size_ % Tokens);
      add(last, done, some);
      size_ += some;
      done += some;
    }
  }

  Rows empty_;
  Index d_, size_ = 0;
  std::vector<std::shared_ptr<Rows>> blocks_;
};

template <class T, Index Tokens>
struct PlainRows<T, PagedBy<Tokens>> : PagedRows<PlainRows<T, Contiguous>, Tokens> {
  explicit PlainRows(Index d) : PagedRows<PlainRows<T, Contiguous>, Tokens>(PlainRows<T, Contiguous>(d), d) {}
};
template <Index Tokens>
struct Int8Rows<PagedBy<Tokens>> : PagedRows<Int8Rows<Contiguous>, Tokens> {
  explicit Int8Rows(Index d) : PagedRows<Int8Rows<Contiguous>, Tokens>(Int8Rows<Contiguous>(d), d) {}
};
template <int Bits, Index Tokens>
requires(Bits >= 2 && Bits <= 4) struct TokenBlocks<Bits, PagedBy<Tokens>>
    : PagedRows<TokenBlocks<Bits, Contiguous>, Tokens> {
  explicit TokenBlocks(Index d, Index channels = UnpackArgs::block)
      : PagedRows<TokenBlocks<Bits, Contiguous>, Tokens>(TokenBlocks<Bits, Contiguous>(d, channels), d) {}
};

}  // namespace tessera::inline TESSERA_ABI::kv
