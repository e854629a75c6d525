/// What structured matrices of quantized parts share.
#pragma once

#include <Eigen/Core>
#include <cstddef>

#include <tessera/expr/operator.hpp>

namespace tessera::inline TESSERA_ABI::detail {

/// Base of structures whose parts are in codes of F. `Self` has `for_each_part(f)`, and `dequantized()`, the matrix
/// that it stands for, where it has no to_dense() and diagonal() of its own.
template <class Self, class F>
class QuantizedStructure : public OperatorBase<Self> {
 public:
  using Scalar = float;
  using Format = F;

  template <class Visit>
  void for_each_buffer(Visit&& visit) const {
    self().for_each_part([&](const auto& part) { part.for_each_buffer(visit); });
  }
  /// Of codes and scales, padding included.
  std::size_t bytes() const {
    std::size_t total = 0;
    self().for_each_part([&](const auto& part) { total += part.bytes(); });
    return total;
  }
  Eigen::MatrixXf to_dense() const { return self().dequantized().to_dense(); }
  Eigen::VectorXf diagonal() const requires requires(const Self& A) { A.dequantized().diagonal(); }
  { return self().dequantized().diagonal(); }

 private:
  const Self& self() const { return static_cast<const Self&>(*this); }
};

}  // namespace tessera::inline TESSERA_ABI::detail
