/// Matrices whose rows are cut into sub-vectors, each an entry of a codebook of low rank.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <utility>

#include <tessera/core/buffer.hpp>
#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>
#include <tessera/expr/expr.hpp>
#include <tessera/kernels/gemm/gemm.hpp>

namespace tessera::inline TESSERA_ABI {

/// Numbers below `count`, as few bits each as that takes.
class PackedCodes {
 public:
  /// Zeros. Throws shape_error for a negative size, one whose bits cannot be counted, or more than 2^32 for `count`.
  PackedCodes(Index size, Index count)
      : size_(size), bits_(static_cast<int>(std::bit_width(static_cast<std::size_t>(std::max<Index>(count, 1) - 1)))) {
    const Index most = (std::numeric_limits<Index>::max() - 7) / std::max(bits_, 1);
    if (size < 0 || size > most || bits_ > 32)
      throw shape_error(detail::concat("tessera: PackedCodes of ", size, " codes below ", count, ": expected 0 to ",
                                       most, " codes of at most 32 bits"));
    words_ = Buffer<std::uint8_t>((size * bits_ + 7) / 8 + slack);
  }
  Index size() const { return size_; }
  int bits() const { return bits_; }
  std::size_t bytes() const { return words_.bytes(); }
  ByteRange byte_range() const { return {words_.begin(), words_.end()}; }
  std::uint32_t operator[](Index i) const {
    const auto mask = (std::uint64_t{1} << bits_) - 1;
    return static_cast<std::uint32_t>(word(i) >> (i * bits_ % 8) & mask);
  }
  /// Of a code that is still 0. Throws shape_error for an index outside, or a code of too many bits.
  void set(Index i, std::uint32_t code) {
    if (i < 0 || i >= size_ || (std::uint64_t{code} >> bits_) != 0)
      throw shape_error(detail::concat("tessera: PackedCodes: code ", i, " of ", size_, " set to ", code,
                                       ": expected at most ", bits_, " bits"));
    const std::uint64_t w = word(i) | std::uint64_t{code} << (i * bits_ % 8);
    __builtin_memcpy(words_.data() + i * bits_ / 8, &w, 8);
  }
  static constexpr Index slack = 8;  // a code is read with the 8 bytes from its first

 private:
  std::uint64_t word(Index i) const {
    std::uint64_t w;
    __builtin_memcpy(&w, words_.data() + i * bits_ / 8, 8);
    return w;
  }
  Index size_;
  int bits_;
  Buffer<std::uint8_t> words_;
};

/// (M,K), K cut into sub-vectors of m (the last may be shorter): the one of row i at position p is C_code(p,i) B, with
/// a codebook C (k,d) and a basis B (d,m). (M·⌈K/m⌉·log₂ k)/8 + 4(kd + dm) bytes. Y = W X multiplies C and B with each
/// part of X once, and adds up what the codes name: 2·(K/m)·(kd + dm)·N flops and M·(K/m)·N additions, less than
/// 2·M·K·N where M is larger than k d / m. Trainable: C, then B. Made by Lr2Vq.
class LowRankCodebook : public OperatorBase<LowRankCodebook> {
 public:
  using Scalar = float;
  static constexpr std::string_view type_name = "LowRankCodebook";

  /// codebook (k,d) and basis (d,m) one after another, codes of position p and row i at p * rows + i.
  /// Throws shape_error where sizes or codes do not fit.
  LowRankCodebook(Index rows, Index cols, Index entries, Index rank, Index length, Buffer<float> parameters,
                  PackedCodes codes)
      : rows_(rows),
        cols_(cols),
        entries_(entries),
        rank_(rank),
        length_(length),
        parameters_(std::move(parameters)),
        codes_(std::move(codes)) {
    Index numbers = 0, sites = 0;
    if (rows < 0 || cols < 0 || entries < 1 || rank < 1 || length < 1 ||
        __builtin_add_overflow(entries, length, &numbers) || __builtin_mul_overflow(rank, numbers, &numbers) ||
        __builtin_mul_overflow(rows, positions(), &sites) || parameters_.size() != numbers || codes_.size() != sites)
      throw shape_error(detail::concat("tessera: LowRankCodebook ", detail::shape_text(rows, cols), " of ", entries,
                                       " entries of rank ", rank, " and length ", length, " from ", parameters_.size(),
                                       " parameters and ", codes_.size(), " codes"));
    for (Index i = 0; i < codes_.size(); ++i)
      if (static_cast<Index>(codes_[i]) >= entries)
        throw shape_error(detail::concat("tessera: LowRankCodebook: code ", i, " is ", codes_[i], " of ", entries));
  }

  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  Index entries() const { return entries_; }
  Index rank() const { return rank_; }
  Index length() const { return length_; }
  Index positions() const { return cols_ / length_ + (cols_ % length_ != 0 ? 1 : 0); }
  std::size_t bytes() const { return codes_.bytes() + parameters_.bytes(); }
  MatrixView<const float> codebook() const { return {parameters_.data(), entries_, rank_}; }
  MatrixView<const float> basis() const { return {parameters_.data() + entries_ * rank_, rank_, length_}; }
  const PackedCodes& codes() const { return codes_; }
  double flops(Index n) const {
    const double tables = 2.0 * static_cast<double>(rank_ * (entries_ + length_));
    return static_cast<double>(positions()) * static_cast<double>(n) * (tables + static_cast<double>(rows_));
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    f(ByteRange{parameters_.begin(), parameters_.end()});
    f(codes_.byte_range());
  }

  Index parameter_count() const { return parameters_.size(); }
  std::span<float> parameters() { return parameters_; }
  std::span<const float> parameters() const { return parameters_; }

  template <class = void>
  void apply(Context& ctx, Op op, float alpha, MatrixView<const float> X, float beta, MatrixView<float> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    const Index N = X.cols();
    detail::scale_by(ctx, beta, Y);
    Workspace::Scope scope(ctx.workspace);
    const MatrixView<float> table(scope.take<float>(entries_ * N), entries_, N),
        Z(scope.take<float>(rank_ * N), rank_, N);
    for (Index p = 0; p < positions(); ++p) {
      const Index first = p * length_, count = std::min(length_, cols_ - first);
      const auto B = basis().slice(1, 0, count);
      if (op == Op::none) {
        gemm<float>(ctx, alpha, B, X.slice(0, first, count), 0, Z);
        gemm<float>(ctx, 1, codebook(), Z, 0, table);
        for_each_chunk(ctx, rows_, grain(N), [&](Context&, Index begin, Index end) {
          for (Index i = begin; i < end; ++i) {
            const float* from = &table(code(p, i), 0);
            for (Index n = 0; n < N; ++n) Y(i, n) += from[n];
          }
        });
      } else {
        gather(ctx, p, X, table);
        gemm<float>(ctx, alpha, codebook().transposed(), table, 0, Z);
        gemm<float>(ctx, 1, B.transposed(), Z, 1, Y.slice(0, first, count));
      }
    }
  }

  /// dparams = beta · dparams + the gradient of <dY, W X>: of C, S (B X_p)ᵀ, and of B, (Cᵀ S) X_pᵀ, summed over
  /// positions p, S (k,N) the sums of dY's rows by code.
  template <class = void>
  void grad(Context& ctx, MatrixView<const float> X, MatrixView<const float> dY, float beta,
            std::span<float> dparams) const {
    detail::check_grad(*this, X, dY, dparams);
    const Index N = X.cols();
    const MatrixView<float> dC(dparams.data(), entries_, rank_), dB(dparams.data() + entries_ * rank_, rank_, length_);
    detail::scale_by(ctx, beta, dC);
    detail::scale_by(ctx, beta, dB);
    Workspace::Scope scope(ctx.workspace);
    const MatrixView<float> S(scope.take<float>(entries_ * N), entries_, N), Z(scope.take<float>(rank_ * N), rank_, N);
    for (Index p = 0; p < positions(); ++p) {
      const Index first = p * length_, count = std::min(length_, cols_ - first);
      const auto part = X.slice(0, first, count);
      gather(ctx, p, dY, S);
      gemm<float>(ctx, 1, basis().slice(1, 0, count), part, 0, Z);
      gemm<float>(ctx, 1, S, Z.transposed(), 1, dC);
      gemm<float>(ctx, 1, codebook().transposed(), S, 0, Z);
      gemm<float>(ctx, 1, Z, part.transposed(), 1, dB.slice(1, 0, count));
    }
  }

 private:
  Index code(Index p, Index i) const { return static_cast<Index>(codes_[p * rows_ + i]); }
  static Index grain(Index n) { return std::max<Index>(1, 32768 / std::max<Index>(n, 1)); }

  /// table (k,N) = the sums of the rows of X by their code at position p.
  void gather(Context& ctx, Index p, MatrixView<const float> X, MatrixView<float> table) const {
    for_each_chunk(ctx, X.cols(), 16, [&](Context&, Index begin, Index end) {
      for (Index c = 0; c < entries_; ++c) std::fill(&table(c, begin), &table(c, begin) + (end - begin), 0.0f);
      for (Index i = 0; i < rows_; ++i) {
        float* to = &table(code(p, i), 0);
        for (Index n = begin; n < end; ++n) to[n] += X(i, n);
      }
    });
  }

  Index rows_, cols_, entries_, rank_, length_;
  Buffer<float> parameters_;
  PackedCodes codes_;
};

}  // namespace tessera::inline TESSERA_ABI
