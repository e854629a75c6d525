/// All blocks as one vector, and products of such.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include <tessera/optim/block_state.hpp>
#include <tessera/optim/nested.hpp>

namespace tessera::inline TESSERA_ABI::optim::detail {

template <class Blocks>
Index total_size(const Blocks& blocks) {
  Index total = 0;
  for (const auto& block : blocks) total += block.size();
  return total;
}
template <class T>
void gather(std::span<const VectorView<T>> blocks, VectorView<T> flat) {
  T* to = flat.data();
  for (const auto& block : blocks) to = std::copy_n(block.data(), block.extent(0), to);
}
template <class T>
void scatter(VectorView<const T> flat, std::span<const VectorView<T>> blocks) {
  const T* from = flat.data();
  for (const auto& block : blocks) {
    std::copy_n(from, block.extent(0), block.data());
    from += block.extent(0);
  }
}
template <class T>
void gather(const Parameters<T>& blocks, VectorView<T> flat) {
  T* to = flat.data();
  for (const auto& block : blocks) to = std::copy_n(block.data, block.size(), to);
}
/// The blocks' names and shapes over a vector's memory.
template <class T>
Parameters<T> over(const std::vector<ParameterInfo>& infos, VectorView<T> flat) {
  Parameters<T> blocks;
  T* at = flat.data();
  for (const auto& p : infos) {
    blocks.emplace_back(p.name, MatrixView<T>(at, p.rows, p.cols));
    at += p.size();
  }
  return blocks;
}

/// Σ x·y in double over pieces, in order: the same bits for any number of threads.
struct AddProduct {
  template <class Sums, class V>
  TESSERA_INLINE void operator()(Sums& sums, const V& x, const V& y) const {
    sums[0] = fma(x, y, sums[0]);
  }
};
template <class T>
double dot(Context& ctx, VectorView<const T> x, VectorView<const T> y) {
  return map_sums<1>(ctx, AddProduct{}, x, y)[0];
}

}  // namespace tessera::inline TESSERA_ABI::optim::detail
