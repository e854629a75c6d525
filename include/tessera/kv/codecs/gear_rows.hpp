/// Quantized rows, and what quantization loses of them: its outliers apart, its residual at low rank.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <utility>
#include <vector>

#include <Eigen/Core>

#include <tessera/core/rng.hpp>
#include <tessera/core/types.hpp>
#include <tessera/kernels/attention/unpack/list.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/kv/codecs/codec.hpp>
#include <tessera/kv/codecs/group_starts.hpp>
#include <tessera/kv/row_math.hpp>
#include <tessera/matrix/detail/thin_qr.hpp>

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
    Index chunk;  // tokens of an append, for reserve()
  };
  /// Throws unsupported_error unless chunk >= 1.
  GearRows(Base base, Index d, Options options) : base_(std::move(base)), d_(d), options_(options) {
    detail::checked_tokens("GearRows", "chunk", options.chunk);
  }

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
    detail::gather_rows(rows, stride, count, d_, scratch);
    stride = d_;
    for (Index t = 0; t < count; ++t)
      for (Index e = starts_[begin + t]; e < starts_[begin + t + 1]; ++e)
        scratch[t * d_ + channels_[e]] += float(values_[e]);
    if (options_.rank == 0) return scratch;
    Index chunk = chunks_.of(begin);
    for (Index t = begin; t < begin + count; ++chunk) {
      const Index end = std::min(chunks_.end(chunk, size()), begin + count);
      add_residual(t, end - t, chunk, scratch + (t - begin) * d_);
      t = end;
    }
    return scratch;
  }
  void retain(std::span<const Index> kept) {
    Index entries = 0;
    std::vector<std::int32_t> ends;
    ends.reserve(kept.size());
    const std::vector<Index> left = chunks_.counts(kept, size());
    retain_rows(left_, options_.rank, kept);
    for (const Index from : kept) {
      const Index first = starts_[from], last = starts_[from + 1];
      for (Index e = first; e < last; ++e, ++entries) {
        channels_[entries] = channels_[e];
        values_[entries] = values_[e];
      }
      ends.push_back(static_cast<std::int32_t>(entries));
    }
    std::copy(ends.begin(), ends.end(), starts_.data() + (ends.empty() ? 0 : 1));
    const auto none = [](Index, Index, Index, Index) {};
    const auto move = [&](Index from, Index to) {
      std::copy_n(right_.data() + from * options_.rank * d_, options_.rank * d_,
                  right_.data() + to * options_.rank * d_);
    };
    const Index chunks = chunks_.regroup(left, 0, none, move);
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
    fit(n, chunks_.before(n));
  }
  void reserve(Index n) {
    const Index chunks = (n + options_.chunk - 1) / options_.chunk;
    const Index outliers =
        options_.axis == OutlierAxis::token ? n * 2 * cut(d_) : chunks * d_ * 2 * cut(options_.chunk);
    base_.reserve(n);
    left_.reserve(n * options_.rank);
    right_.reserve(chunks * options_.rank * d_);
    chunks_.reserve(chunks);
    starts_.reserve(n + 1);
    channels_.reserve(outliers);
    values_.reserve(outliers);
  }
  Index size() const { return base_.size(); }
  std::size_t bytes() const {
    return base_.bytes() + left_.bytes() + right_.bytes() + chunks_.bytes() + starts_.bytes() + channels_.bytes() +
           values_.bytes();
  }

 private:
  /// Outliers at either end of a line.
  Index cut(Index length) const {
    const Index wanted = std::llround(options_.sparsity / 2 * static_cast<double>(length));
    return std::min(wanted, (length - 1) / 2);
  }
  void fit(Index tokens, Index chunks) {
    const Index entries = tokens > 0 ? Index{starts_[tokens]} : 0;
    truncate_rows(starts_, 1, tokens > 0 ? tokens + 1 : 0);
    truncate_rows(channels_, 1, entries);
    truncate_rows(values_, 1, entries);
    chunks_.truncate(chunks);
    truncate_rows(right_, options_.rank * d_, chunks);
  }

  /// Clamps each line to the numbers between its outliers.
  void split_outliers(Index count, std::vector<float>& rest, std::vector<float>& outliers) const {
    const bool along_tokens = options_.axis == OutlierAxis::channel;
    const Index lines = along_tokens ? d_ : count, length = along_tokens ? count : d_;
    const Index step = along_tokens ? d_ : 1, line_step = along_tokens ? 1 : d_;
    const Index cut = this->cut(length);
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
  /// Adds A B of tokens [at, at + count) of one chunk; by plain loops where there is no memory for the product's
  /// panels, for attention, which calls it, cannot throw. (These alone: a tile takes 5.7 µs instead of 2.3.)
  void add_residual(Index at, Index count, Index chunk, float* out) const noexcept {
    const Index rank = options_.rank;
    const f16 *const left = left_.data() + at * rank, *const right = right_.data() + chunk * rank * d_;
    try {
      gemm<float>(default_context(), 1, MatrixView<const f16>(left, count, rank),
                  MatrixView<const f16>(right, rank, d_), 1, MatrixView<float>(out, count, d_));
    } catch (const std::bad_alloc&) {
      for (Index t = 0; t < count; ++t)
        for (Index k = 0; k < rank; ++k)
          for (Index c = 0; c < d_; ++c) out[t * d_ + c] += float(left[t * rank + k]) * float(right[k * d_ + c]);
    }
  }
  /// Power iteration on R = rest - Base(rest): A of orthonormal columns, B = Aᵀ R.
  void append_residual(Index before, Index count, bool finite, std::vector<float>& rest) {
    constexpr int sweeps = 3;
    const Index rank = options_.rank, chunk = chunks_.groups();
    chunks_.add(before);
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
    // By a power of two, which moves no bit, for squares of what is far from 1 leave f32.
    float largest = 0;
    for (const float x : rest) largest = std::max(largest, std::abs(x));
    const int exponent = finite && largest > 0 ? std::ilogb(largest) : 0;
    for (float& x : rest) x = std::ldexp(x, -exponent);
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
      right_[chunk * rank * d_ + i] = finite ? saturate_cast<f16>(std::ldexp(B.data()[i], exponent)) : f16(0.0f);
  }
  /// By QR; columns beyond the rows there are become 0.
  static void orthonormalize(MatrixView<float> A) {
    Eigen::Map<Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>> all(A.data(), A.rows(), A.cols());
    const Eigen::MatrixXf Q = tessera::detail::thin_qr<float>(Eigen::MatrixXf(all)).Q;
    all.leftCols(Q.cols()) = Q;
    all.rightCols(A.cols() - Q.cols()).setZero();
  }

  Base base_;
  Index d_;
  Options options_;
  typename Storage::template Array<f16> left_;   // (size, rank)
  typename Storage::template Array<f16> right_;  // (chunks, rank, d)
  detail::GroupStarts<Storage> chunks_;
  typename Storage::template Array<std::int32_t> starts_;  // (size + 1), or none: a token's outliers
  typename Storage::template Array<std::uint16_t> channels_;
  typename Storage::template Array<f16> values_;
};

}  // namespace tessera::inline TESSERA_ABI::kv
