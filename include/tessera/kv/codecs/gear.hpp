/// Quantized rows, and what quantization loses of them: its outliers apart, its residual at low rank.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <tessera/core/error.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/core/types.hpp>
#include <tessera/kernels/attention/unpack/list.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/kv/codecs/kivi.hpp>
#include <tessera/kv/codecs/latent.hpp>
#include <tessera/kv/codecs/recent.hpp>

namespace tessera::inline TESSERA_ABI::kv {

enum class OutlierAxis { channel, token };

/// X ≈ Base(X - S) + S + A B, each `append` a chunk with a B of its own. S moves the `sparsity`/2 largest and smallest
/// numbers of each line (a channel of the chunk, or a token) to the edge of the others' range; A B is the residual's
/// part of rank `rank` by `sweeps` of power iteration. A row is put together in the tile that attention reads: 2·rank
/// flops a number. A, B and S in f16: 2·rank bytes a token, 2·rank·d a chunk, 4 an outlier.
template <RowStore Base, class Storage>
class GearRows {
 public:
  struct Options {
    OutlierAxis axis;
    Index rank;
    double sparsity;
  };
  GearRows(Base base, Index d, Options options) : base_(std::move(base)), d_(d), options_(options) {}

  void append(const float* rows, Index count, Index stride) {
    if (count == 0) return;
    std::vector<float> rest(static_cast<std::size_t>(count * d_));
    bool finite = true;
    for (Index t = 0; t < count; ++t)
      for (Index c = 0; c < d_; ++c) {
        rest[static_cast<std::size_t>(t * d_ + c)] = rows[t * stride + c];
        finite = finite && std::isfinite(rows[t * stride + c]);
      }
    std::vector<float> outliers(rest.size(), 0.0f);
    if (finite) split_outliers(count, rest, outliers);
    const Index before = size();
    try {
      base_.append(rest.data(), count, d_);
      append_outliers(count, outliers);
      append_residual(before, count, finite, rest);
    } catch (...) {
      truncate(before);
      throw;
    }
  }
  const float* tile(Index begin, Index count, float* scratch, Index& stride, Unpack unpack) const noexcept {
    const float* const rows = base_.tile(begin, count, scratch, stride, unpack);
    for (Index t = 0; rows != scratch && t < count; ++t) std::copy_n(rows + t * stride, d_, scratch + t * d_);
    stride = d_;
    for (Index t = 0; t < count; ++t)
      for (Index e = starts_[begin + t]; e < starts_[begin + t + 1]; ++e)
        scratch[t * d_ + channels_[e]] += float(values_[e]);
    if (options_.rank == 0) return scratch;
    Index chunk = std::upper_bound(chunks_.data(), chunks_.data() + chunks_.size(), static_cast<std::int32_t>(begin)) -
                  chunks_.data() - 1;
    for (Index t = begin; t < begin + count; ++chunk) {
      const Index end = std::min(chunk_end(chunk), begin + count), rank = options_.rank;
      gemm<float>(default_context(), 1, MatrixView<const f16>(left_.data() + t * rank, end - t, rank),
                  MatrixView<const f16>(right_.data() + chunk * rank * d_, rank, d_), 1,
                  MatrixView<float>(scratch + (t - begin) * d_, end - t, d_));
      t = end;
    }
    return scratch;
  }
  void retain(std::span<const Index> kept) {
    Index entries = 0, chunk = 0, chunks = 0, last_chunk = -1;
    std::vector<std::int32_t> ends, firsts;
    ends.reserve(kept.size());
    firsts.reserve(static_cast<std::size_t>(chunks_.size()));
    retain_rows(left_, options_.rank, kept);
    for (const Index from : kept) {
      const Index first = starts_[from], last = starts_[from + 1];
      for (Index e = first; e < last; ++e, ++entries) {
        channels_[entries] = channels_[e];
        values_[entries] = values_[e];
      }
      while (from >= chunk_end(chunk)) ++chunk;
      if (chunk != last_chunk) {
        last_chunk = chunk;
        firsts.push_back(static_cast<std::int32_t>(ends.size()));
        std::copy_n(right_.data() + chunk * options_.rank * d_, chunk == chunks ? 0 : options_.rank * d_,
                    right_.data() + chunks * options_.rank * d_);
        ++chunks;
      }
      ends.push_back(static_cast<std::int32_t>(entries));
    }
    std::copy(ends.begin(), ends.end(), starts_.data() + (ends.empty() ? 0 : 1));
    std::copy(firsts.begin(), firsts.end(), chunks_.data());
    base_.retain(kept);
    fit(static_cast<Index>(kept.size()), chunks);
    starts_.fit();
    channels_.fit();
    values_.fit();
    chunks_.fit();
    right_.fit();
  }
  void truncate(Index n) {
    base_.truncate(n);
    truncate_rows(left_, options_.rank, n);
    Index chunks = chunks_.size();
    while (chunks > 0 && chunks_[chunks - 1] >= n) --chunks;
    fit(n, chunks);
  }
  void reserve(Index n) {
    base_.reserve(n);
    left_.reserve(n * options_.rank);
    starts_.reserve(n + 1);
  }
  Index size() const { return base_.size(); }
  std::size_t bytes() const {
    return base_.bytes() + left_.bytes() + right_.bytes() + chunks_.bytes() + starts_.bytes() + channels_.bytes() +
           values_.bytes();
  }

 private:
  Index chunk_end(Index chunk) const { return chunk + 1 < chunks_.size() ? Index{chunks_[chunk + 1]} : size(); }

  void fit(Index tokens, Index chunks) {
    const Index entries = tokens > 0 ? Index{starts_[tokens]} : 0;
    truncate_rows(starts_, 1, tokens > 0 ? tokens + 1 : 0);
    truncate_rows(channels_, 1, entries);
    truncate_rows(values_, 1, entries);
    truncate_rows(chunks_, 1, chunks);
    truncate_rows(right_, options_.rank * d_, chunks);
  }

  /// Clamps each line to the numbers between its outliers.
  void split_outliers(Index count, std::vector<float>& rest, std::vector<float>& outliers) const {
    const bool along_tokens = options_.axis == OutlierAxis::channel;
    const Index lines = along_tokens ? d_ : count, length = along_tokens ? count : d_;
    const Index step = along_tokens ? d_ : 1, line_step = along_tokens ? 1 : d_;
    const Index wanted = std::llround(options_.sparsity / 2 * static_cast<double>(length));
    const Index cut = std::min(wanted, (length - 1) / 2);
    if (cut == 0) return;
    std::vector<float> sorted(static_cast<std::size_t>(length));
    for (Index l = 0; l < lines; ++l) {
      const auto at = [&](Index i) { return static_cast<std::size_t>(l * line_step + i * step); };
      for (Index i = 0; i < length; ++i) sorted[static_cast<std::size_t>(i)] = rest[at(i)];
      std::nth_element(sorted.begin(), sorted.begin() + cut, sorted.end());
      const float low = sorted[static_cast<std::size_t>(cut)];
      std::nth_element(sorted.begin() + cut, sorted.end() - 1 - cut, sorted.end());
      const float high = sorted[static_cast<std::size_t>(length - 1 - cut)];
      for (Index i = 0; i < length; ++i) {
        float& x = rest[at(i)];
        const float inside = std::clamp(x, low, high);
        outliers[at(i)] = x - inside;
        x = inside;
      }
    }
  }
  void append_outliers(Index count, const std::vector<float>& outliers) {
    const Index before = starts_.size() == 0 ? 0 : starts_.size() - 1, used = values_.size();
    const Index added = static_cast<Index>(outliers.size()) - std::count(outliers.begin(), outliers.end(), 0.0f);
    starts_.resize(before + count + 1);
    if (before == 0) starts_[0] = 0;
    channels_.resize(used + added);
    values_.resize(used + added);
    Index e = used;
    for (Index t = 0; t < count; ++t) {
      for (Index c = 0; c < d_; ++c) {
        const float x = outliers[static_cast<std::size_t>(t * d_ + c)];
        if (x == 0) continue;
        channels_[e] = static_cast<std::uint16_t>(c);
        values_[e++] = saturate_cast<f16>(x);
      }
      starts_[before + t + 1] = static_cast<std::int32_t>(e);
    }
  }
  /// Power iteration on R = rest - Base(rest): A of orthonormal columns, B = Aᵀ R.
  void append_residual(Index before, Index count, bool finite, std::vector<float>& rest) {
    constexpr int sweeps = 3;
    const Index rank = options_.rank, chunk = chunks_.size();
    chunks_.resize(chunk + 1);
    chunks_[chunk] = static_cast<std::int32_t>(before);
    left_.resize((before + count) * rank);
    right_.resize((chunk + 1) * rank * d_);
    if (rank == 0) return;
    Context& ctx = default_context();
    Workspace::Scope scope(ctx.workspace);
    Index stride = 0;
    UnpackArgs any;
    any.bits = 8;
    const float* const coded =
        base_.tile(before, count, scope.take<float>(count * d_), stride, UnpackKernels::select(ctx, any).run);
    for (Index t = 0; t < count; ++t)
      for (Index c = 0; c < d_; ++c) rest[static_cast<std::size_t>(t * d_ + c)] -= coded[t * stride + c];
    const MatrixView<const float> R(rest.data(), {count, d_}, {d_, 1});
    const MatrixView<float> A(scope.take<float>(count * rank), count, rank);
    const MatrixView<float> B(scope.take<float>(rank * d_), rank, d_);
    const Philox draws(0x6ea7, static_cast<std::uint64_t>(before));
    for (Index i = 0; i < rank * d_; ++i)
      B.data()[i] = static_cast<float>(static_cast<std::int32_t>(draws.bits(static_cast<std::uint64_t>(i)))) * 0x1p-31f;
    for (int sweep = 0; sweep < sweeps; ++sweep) {
      gemm<float>(ctx, 1, R, B.transposed(), 0, A);
      orthonormalize(A);
      gemm<float>(ctx, 1, A.transposed(), R, 0, B);
    }
    for (Index i = 0; i < count * rank; ++i)
      left_[before * rank + i] = finite ? saturate_cast<f16>(A.data()[i]) : f16(0.0f);
    for (Index i = 0; i < rank * d_; ++i)
      right_[chunk * rank * d_ + i] = finite ? saturate_cast<f16>(B.data()[i]) : f16(0.0f);
  }
  /// Gram–Schmidt, twice; what depends on earlier columns becomes 0.
  static void orthonormalize(MatrixView<float> A) {
    for (Index j = 0; j < A.cols(); ++j) {
      double before = 0, after = 0;
      for (int pass = 0; pass < 2; ++pass) {
        before = 0;
        for (Index i = 0; i < A.rows(); ++i) before += double{A(i, j)} * double{A(i, j)};
        for (Index k = 0; k < j; ++k) {
          double dot = 0;
          for (Index i = 0; i < A.rows(); ++i) dot += double{A(i, j)} * double{A(i, k)};
          for (Index i = 0; i < A.rows(); ++i) A(i, j) -= static_cast<float>(dot * double{A(i, k)});
        }
        after = 0;
        for (Index i = 0; i < A.rows(); ++i) after += double{A(i, j)} * double{A(i, j)};
        if (!(after > 1e-10 * before)) after = 0;
        const auto scale = static_cast<float>(after > 0 ? 1 / std::sqrt(after) : 0);
        for (Index i = 0; i < A.rows(); ++i) A(i, j) *= scale;
      }
    }
  }

  Base base_;
  Index d_;
  Options options_;
  typename Storage::template Array<f16> left_;             // (size, rank)
  typename Storage::template Array<f16> right_;            // (chunks, rank, d)
  typename Storage::template Array<std::int32_t> chunks_;  // (chunks): the first token of each
  typename Storage::template Array<std::int32_t> starts_;  // (size + 1), or none: a token's outliers
  typename Storage::template Array<std::uint16_t> channels_;
  typename Storage::template Array<f16> values_;
};

/// H. Kang et al., "GEAR: An Efficient KV Cache Compression Recipe for Near-Lossless Generative Inference of LLM"
/// (2024), §3: a codec C, its outliers along channels of keys and tokens of values, and the residual at rank `rank`.
/// Tokens arrive in f32 and leave `chunk` at a time. Deviation: prompts are cut in chunks like what follows, so that
/// the same tokens make the same cache however they come. C's bytes, and of a number 2·rank/d + 2·rank/chunk bytes and
/// 4·sparsity. Throws shape_error for heads of over 65535 channels.
template <Codec C = Kivi<4>>
struct Gear {
 private:
  static constexpr auto text = detail::joined<5 + C::name.size()>("gear ", C::name);

 public:
  static constexpr std::string_view name{text.data(), text.size()};
  Index rank = 4;
  double sparsity = 0.02;
  Index chunk = 256;
  C codec = detail::windowless<C>();

  template <class Storage>
  auto keys(Index d, Index kv_head) const {
    return chunked<Storage>(detail::row_store<KvPart::keys, Storage>(codec, d, kv_head), d, OutlierAxis::channel);
  }
  template <class Storage>
  auto values(Index d, Index kv_head) const {
    return chunked<Storage>(detail::row_store<KvPart::values, Storage>(codec, d, kv_head), d, OutlierAxis::token);
  }

 private:
  template <class Storage, class Base>
  auto chunked(Base base, Index d, OutlierAxis axis) const {
    using tessera::detail::concat;
    if (chunk < 1 || rank < 0 || rank > std::min(chunk, d) || !(sparsity >= 0 && sparsity <= 1))
      throw unsupported_error(concat("tessera: Gear of chunks of ", chunk, " tokens of ", d, " channels, rank ", rank,
                                     " and sparsity ", sparsity,
                                     "; expected at least a token, a rank of 0 to the smaller, 0 to 1"));
    if (d > std::numeric_limits<std::uint16_t>::max())
      throw shape_error(concat("tessera: Gear of heads of ", d, " channels; expected at most 65535"));
    if constexpr (requires { codec.recent; })
      if (codec.recent != 0 || chunk % codec.group != 0)
        throw unsupported_error(concat("tessera: Gear of chunks of ", chunk, " tokens over ", C::name,
                                       " with groups of ", codec.group, " and a window of ", codec.recent,
                                       "; expected groups that divide a chunk, and no window"));
    using Rows = GearRows<Base, Storage>;
    return Recent<Rows, Storage>(Rows(std::move(base), d, {axis, rank, sparsity}), d, chunk, 0);
  }
};

}  // namespace tessera::inline TESSERA_ABI::kv
