/// The state of methods that are told of a layer's inputs and output gradients.
#pragma once

#include <vector>

#include <tessera/optim/second_order/sides.hpp>

namespace tessera::inline TESSERA_ABI::optim::detail {

/// BlockState with a few counts for each block: batches seen, inverses taken or kept, and those refused.
template <class T, std::size_t N>
struct ObservedState : BlockState<T, N> {
  std::vector<ParameterInfo> infos;
  std::vector<Index> seen, inverted, refused;

  template <class F>
  ObservedState(std::array<std::string_view, N> names_, const Parameters<T>& params, F&& sizes)
      : BlockState<T, N>(names_, params, sizes),
        infos(params.begin(), params.end()),
        seen(params.size()),
        inverted(params.size()),
        refused(params.size()) {}

  template <class F>
  void for_each_buffer(const std::string& prefix, const std::vector<ParameterInfo>& blocks_of, F&& f) {
    BlockState<T, N>::for_each_buffer(prefix, blocks_of, f);
    f(prefix + "seen", std::span<Index>(seen));
    f(prefix + "inverted", std::span<Index>(inverted));
    f(prefix + "refused", std::span<Index>(refused));
  }

  /// Throws shape_error unless a (B,n) and g (B,m) fit block (m,n).
  void check(std::string_view who, std::size_t block, MatrixView<const T> a, MatrixView<const T> g) const {
    if (block >= infos.size())
      throw shape_error(concat("tessera: ", who, ": observes block ", block, " of ", infos.size()));
    const ParameterInfo& p = infos[block];
    if (a.cols() != p.cols || g.cols() != p.rows || a.rows() != g.rows())
      throw shape_error(concat(
          "tessera: ", who, ": parameter '", p.name, "' is (", tessera::detail::shape_text(p.rows, p.cols),
          "), inputs (", tessera::detail::shape_text(a.rows(), a.cols()), ") and output gradients (",
          tessera::detail::shape_text(g.rows(), g.cols()), "); expected (B, ", p.cols, ") and (B, ", p.rows, ")"));
  }
};

}  // namespace tessera::inline TESSERA_ABI::optim::detail
