/// Vector quantization by the nearest entry of a codebook, with its gradients.
/// A. van den Oord et al., "Neural Discrete Representation Learning" (2017), eq. 1-3; the codebook's moving averages
/// are its appendix A.1. Q. Yu et al., "An Image is Worth 32 Tokens" (2024) quantizes latents so.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include <tessera/core/buffer.hpp>
#include <tessera/kernels/gemm/gemm.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {
inline void check_codebook(const char* what, Index cols, MatrixView<const float> codebook) {
  if (cols != codebook.cols() || codebook.rows() == 0)
    throw shape_error(concat("tessera: ", what, " of vectors of ", cols, " with a codebook (",
                             shape_text(codebook.rows(), codebook.cols()),
                             "): expected entries of as many, at least one"));
}
inline double squared_distance(VectorView<const float> a, VectorView<const float> b) {
  double sum = 0;
  for (Index i = 0; i < a.extent(0); ++i) {
    const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    sum += d * d;
  }
  return sum;
}
}  // namespace detail

/// ids(t) = the entry of C (K,d) nearest to z_t of Z (n,d), the first among equals: argmin |c|² - 2 z·c by gemm,
/// entries within its rounding error of the least compared in double, so that the result is that of the obvious loop.
/// Vectors that are not finite get entry 0. 2·n·K·d flops, scratch of 256 rows of K. Throws shape_error.
template <class = void>
void vq_assign(Context& ctx, MatrixView<const float> Z, MatrixView<const float> C, std::span<std::int32_t> ids) {
  detail::check_codebook("vq_assign", Z.cols(), C);
  const Index n = Z.rows(), K = C.rows(), d = Z.cols();
  if (static_cast<Index>(ids.size()) != n || K > std::numeric_limits<std::int32_t>::max())
    throw shape_error(detail::concat("tessera: vq_assign of ", n, " vectors to ", K, " entries, into ", ids.size(),
                                     " ids: expected ", n, ", and entries that int32 can name"));
  Buffer<double> square(K);
  double longest = 0;
  for (Index k = 0; k < K; ++k) {
    for (Index i = 0; i < d; ++i) square[k] += static_cast<double>(C(k, i)) * static_cast<double>(C(k, i));
    longest = std::max(longest, std::sqrt(square[k]));
  }
  constexpr Index most = 256;
  Workspace::Scope scope(ctx.workspace);
  const MatrixView<float> dots(scope.take<float>(std::min(most, n) * K), std::min(most, n), K);
  for (Index begin = 0; begin < n; begin += most) {
    const Index count = std::min(most, n - begin);
    const auto part = Z.slice(0, begin, count);
    gemm<float>(ctx, 1.0f, part, C.transposed(), 0.0f, dots.slice(0, 0, count));
    for_each_chunk(ctx, count, std::max<Index>(1, 16384 / K), [&](Context&, Index first, Index last) {
      for (Index t = first; t < last; ++t) {
        const auto z = part.row(t);
        double length = 0, least = std::numeric_limits<double>::infinity();
        for (Index i = 0; i < d; ++i) length += static_cast<double>(z[i]) * static_cast<double>(z[i]);
        const auto score = [&](Index k) { return square[k] - 2 * static_cast<double>(dots(t, k)); };
        for (Index k = 0; k < K; ++k) least = std::min(least, score(k));
        // |fl(z·c) - z·c| <= γ_d |z| |c|, twice for the two entries compared.
        const double slack = 4 * static_cast<double>(d + 2) * 0x1p-24 * std::sqrt(length) * longest;
        double nearest = std::numeric_limits<double>::infinity();
        Index id = 0;
        for (Index k = 0; k < K; ++k)
          if (score(k) <= least + slack)
            if (const double distance = detail::squared_distance(z, C.row(k)); distance < nearest) {
              nearest = distance;
              id = k;
            }
        ids[static_cast<std::size_t>(begin + t)] = static_cast<std::int32_t>(id);
      }
    });
  }
}

/// Q (n,d) = the entries that ids name. Throws shape_error, also for an id outside the codebook.
inline void vq_decode(Context& ctx, std::span<const std::int32_t> ids, MatrixView<const float> C, MatrixView<float> Q) {
  detail::check_codebook("vq_decode", Q.cols(), C);
  if (static_cast<Index>(ids.size()) != Q.rows())
    throw shape_error(detail::concat("tessera: vq_decode of ", ids.size(), " ids into ", Q.rows(), " rows"));
  for (std::size_t t = 0; t < ids.size(); ++t)
    if (ids[t] < 0 || ids[t] >= C.rows())
      throw shape_error(detail::concat("tessera: vq_decode: id ", t, " is ", ids[t], "; expected 0 to ", C.rows() - 1));
  for_each_chunk(ctx, Q.rows(), 1024, [&](Context&, Index begin, Index end) {
    for (Index t = begin; t < end; ++t)
      for (Index i = 0; i < Q.cols(); ++i) Q(t, i) = C(ids[static_cast<std::size_t>(t)], i);
  });
}

/// mean |z - q|², which the codebook loss and the commitment loss both are, of different operands' gradients.
inline double vq_distortion(MatrixView<const float> Z, MatrixView<const float> C, std::span<const std::int32_t> ids) {
  detail::check_codebook("vq_distortion", Z.cols(), C);
  double sum = 0;
  for (Index t = 0; t < Z.rows(); ++t)
    sum += detail::squared_distance(Z.row(t), C.row(ids[static_cast<std::size_t>(t)]));
  return Z.rows() == 0 ? 0 : sum / static_cast<double>(Z.rows());
}

/// Of L(q) + commitment · mean |z - sg[q]|² + mean |sg[z] - q|²: dZ = dQ (straight through) + 2 commitment (z - q) / n,
/// dC += Σ 2 (c - z) / n over each entry's vectors. dZ may be dQ. Throws shape_error.
inline void vq_backward(Context& ctx, MatrixView<const float> Z, MatrixView<const float> C,
                        std::span<const std::int32_t> ids, MatrixView<const float> dQ, float commitment,
                        MatrixView<float> dZ, MatrixView<float> dC) {
  detail::check_codebook("vq_backward", Z.cols(), C);
  const Index n = Z.rows(), d = Z.cols();
  if (static_cast<Index>(ids.size()) != n || dQ.rows() != n || dZ.rows() != n || dQ.cols() != d || dZ.cols() != d ||
      dC.rows() != C.rows() || dC.cols() != d)
    throw shape_error(detail::concat("tessera: vq_backward of Z (", detail::shape_text(n, d), ") with ", ids.size(),
                                     " ids, dQ (", detail::shape_text(dQ.rows(), dQ.cols()), "), dZ (",
                                     detail::shape_text(dZ.rows(), dZ.cols()), "), dC (",
                                     detail::shape_text(dC.rows(), dC.cols()), "): expected the shapes of Z and C"));
  const float scale = 2.0f / static_cast<float>(std::max<Index>(n, 1));
  for_each_chunk(ctx, n, 1024, [&](Context&, Index begin, Index end) {
    for (Index t = begin; t < end; ++t)
      for (Index i = 0; i < d; ++i)
        dZ(t, i) = dQ(t, i) + commitment * scale * (Z(t, i) - C(ids[static_cast<std::size_t>(t)], i));
  });
  for (Index t = 0; t < n; ++t)
    for (Index i = 0; i < d; ++i) {
      const Index k = ids[static_cast<std::size_t>(t)];
      dC(k, i) += scale * (C(k, i) - Z(t, i));
    }
}

/// A codebook as moving averages of the vectors it was chosen for, in place of its gradient (appendix A.1).
class CodebookAverages {
 public:
  explicit CodebookAverages(MatrixView<const float> C) : count_(C.rows()), sum_(C.size()) {
    for (Index k = 0; k < C.rows(); ++k) {
      count_[k] = 1;
      for (Index i = 0; i < C.cols(); ++i) sum_[k * C.cols() + i] = static_cast<double>(C(k, i));
    }
  }
  /// N_k = decay N_k + (1 - decay) n_k, m_k = decay m_k + (1 - decay) Σ z of its vectors, c_k = m_k / N_k: towards
  /// their mean, so that |z - q|² falls. Entries nobody chose stay. ids are vq_assign's of Z and C. Throws shape_error.
  void update(MatrixView<const float> Z, std::span<const std::int32_t> ids, double decay, MatrixView<float> C) {
    detail::check_codebook("CodebookAverages::update", Z.cols(), C);
    if (static_cast<Index>(ids.size()) != Z.rows() || C.rows() != count_.size() || C.size() != sum_.size())
      throw shape_error(detail::concat("tessera: CodebookAverages::update of ", count_.size(), " entries with C (",
                                       detail::shape_text(C.rows(), C.cols()), "), Z (",
                                       detail::shape_text(Z.rows(), Z.cols()), ") and ", ids.size(),
                                       " ids: expected the codebook's shape and an id a row"));
    const Index d = C.cols();
    Buffer<double> n(C.rows()), m(C.size());
    for (Index t = 0; t < Z.rows(); ++t) {
      const Index k = ids[static_cast<std::size_t>(t)];
      n[k] += 1;
      for (Index i = 0; i < d; ++i) m[k * d + i] += static_cast<double>(Z(t, i));
    }
    for (Index k = 0; k < C.rows(); ++k) {
      if (n[k] == 0) continue;
      count_[k] = decay * count_[k] + (1 - decay) * n[k];
      for (Index i = 0; i < d; ++i) {
        sum_[k * d + i] = decay * sum_[k * d + i] + (1 - decay) * m[k * d + i];
        C(k, i) = static_cast<float>(sum_[k * d + i] / count_[k]);
      }
    }
  }

 private:
  Buffer<double> count_, sum_;
};

}  // namespace tessera::inline TESSERA_ABI
