/// Matrices seen in a subspace of their shorter side: R = P·G, or G·Pᵀ where the columns are fewer.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/optim/block_state.hpp>
#include <tessera/optim/nested.hpp>
#include <tessera/optim/normal_groups.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {

/// How a matrix of p's shape is seen: R is (rows, cols), P (rank, side).
struct Seen {
  bool left;  // the rows are the shorter side
  Index side, rank, rows, cols;

  Seen(const ParameterInfo& p, Index most)
      : left(p.rows <= p.cols),
        side(std::min(p.rows, p.cols)),
        rank(std::min(most, side)),
        rows(left ? rank : p.rows),
        cols(left ? p.cols : rank) {}

  /// R ← P·G or G·Pᵀ.
  template <class T>
  void down(Context& ctx, MatrixView<const T> P, MatrixView<const T> G, MatrixView<T> R) const {
    left ? gemm<T>(ctx, T(1), P, G, T(0), R) : gemm<T>(ctx, T(1), G, P.transposed(), T(0), R);
  }
  /// G ← alpha·Pᵀ·R + beta·G or alpha·R·P + beta·G.
  template <class T>
  void up(Context& ctx, double alpha, MatrixView<const T> P, MatrixView<const T> R, double beta,
          MatrixView<T> G) const {
    const T a = static_cast<T>(alpha), b = static_cast<T>(beta);
    left ? gemm<T>(ctx, a, P.transposed(), R, b, G) : gemm<T>(ctx, a, R, P, b, G);
  }
};

/// An optimizer's state for one matrix, which need not be a parameter.
template <class T, class Opt>
struct OneBlock {
  Parameters<T> block;
  inner_state_t<Opt, T> state;

  OneBlock(const Opt& opt, const std::string& name, Index rows, Index cols)
      : block{{name, MatrixView<T>(nullptr, rows, cols)}}, state(begin(opt)) {}
  /// At zero.
  inner_state_t<Opt, T> begin(const Opt& opt) {
    Buffer<T> zeros(block[0].size());  // some links look at their parameters
    block[0].data = zeros.data();
    return opt.init(block);
  }
  /// u ← what the links make of it, with `param` for the parameters.
  void step(Context& ctx, const Opt& opt, MatrixView<T> u, T* param) {
    block[0].data = param;
    const VectorView<T> all(u.data(), u.size());
    opt.transform(ctx, std::span<const VectorView<T>>(&all, 1), state, block);
  }
};

/// An optimizer's state for each block's R, and numbers that the method keeps beside it.
template <class T, class Inner>
struct SubspaceState {
  struct Block {
    Seen seen;
    OneBlock<T, Inner> inner;
    Buffer<T> kept;
    void step(Context& ctx, const Inner& opt, MatrixView<T> R) { inner.step(ctx, opt, R, R.data()); }
  };
  std::string_view name;  // of what is kept
  std::vector<Block> blocks;

  /// Throws unsupported_error for a rank or number of steps under 1 or a block that is no matrix.
  template <class F>
  SubspaceState(std::string_view who, const Inner& opt, const Parameters<T>& params, Index rank, Index refresh,
                std::string_view name_of_kept, F&& length_of_kept)
      : name(name_of_kept) {
    if (rank < 1 || refresh < 1)
      throw unsupported_error(tessera::detail::concat("tessera: ", who, ": rank ", rank, ", drawn every ", refresh,
                                                      " steps; expected 1 or more of both"));
    for (const auto& p : params) {
      check_matrix(who, p);
      const Seen seen(p, rank);
      blocks.push_back({seen, {opt, p.name, seen.rows, seen.cols}, Buffer<T>(length_of_kept(seen))});
    }
  }
  template <class F>
  void for_each_buffer(const std::string& prefix, const std::vector<ParameterInfo>& infos, F&& f) {
    for (std::size_t b = 0; b < blocks.size(); ++b) {
      const std::string of_block = prefix + infos[b].name + '.';
      if (blocks[b].kept.size() > 0) f(of_block + std::string(name), std::span<T>(blocks[b].kept));
      blocks[b].inner.state.list_buffers(of_block, f);
    }
  }
};

}  // namespace detail

/// P of independent N(0, 1/rank), so that ‖P·x‖² is ‖x‖² in the mean; a function of the seed, the block and how often
/// it was drawn, made again whenever it is needed.
struct gaussian_projection {
  static constexpr bool stored = false;
  std::uint64_t seed = 0;
  template <class T>
  void operator()(Context& ctx, MatrixView<const T>, std::size_t block, Index drawn, MatrixView<T> P) const {
    constexpr Index group = NormalDraws::group;
    const NormalDraws draws(ctx, seed, static_cast<std::uint64_t>(drawn), static_cast<std::uint32_t>(block));
    const double deviation = 1 / std::sqrt(static_cast<double>(P.rows()));
    for_each_chunk(ctx, (P.size() + group - 1) / group, 16, [&](Context& worker, Index begin, Index end) {
      float z[group];
      for (Index g = begin; g < end; ++g) {
        draws(worker, g, z);
        for (Index i = g * group; i < std::min(P.size(), (g + 1) * group); ++i)
          P.data()[i] = static_cast<T>(deviation * static_cast<double>(z[i - g * group]));
      }
    });
  }
};

}  // namespace tessera::inline TESSERA_ABI::optim
