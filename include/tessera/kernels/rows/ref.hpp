/// The obvious loops, in the element type, any strides.
#pragma once

#include <cmath>
#include <limits>

#include <tessera/kernels/rows/args.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {
template <class T>
T row_max(const VectorView<const T>& x) {
  T most = -std::numeric_limits<T>::infinity();
  for (Index j = 0; j < x.extent(0); ++j)
    if (x[j] > most) most = x[j];
  return most;
}
}  // namespace detail

struct SoftmaxRef {
  static constexpr std::string_view name = "softmax:ref";
  static constexpr Isa isa = Isa::portable;
  template <class T>
  static const char* reject(const SoftmaxArgs<T>&) {
    return nullptr;
  }
  template <class T>
  static void run(const SoftmaxArgs<T>& a, RowRange rows) noexcept {
    for (Index i = rows.begin; i < rows.end; ++i) {
      const auto x = a.X.row(i);
      const auto y = a.Y.row(i);
      const T most = detail::row_max(x);
      const T shift = most == -std::numeric_limits<T>::infinity() ? T(0) : most;
      T sum = 0;
      for (Index j = 0; j < x.extent(0); ++j) sum += y[j] = std::exp(x[j] - shift);
      const T scale = sum == T(0) ? T(0) : T(1) / sum;
      for (Index j = 0; j < x.extent(0); ++j) y[j] *= scale;
    }
  }
};

struct LogSumExpRef {
  static constexpr std::string_view name = "log_sum_exp:ref";
  static constexpr Isa isa = Isa::portable;
  template <class T>
  static const char* reject(const RowReduceArgs<T>&) {
    return nullptr;
  }
  template <class T>
  static void run(const RowReduceArgs<T>& a, RowRange rows) noexcept {
    for (Index i = rows.begin; i < rows.end; ++i) {
      const auto x = a.X.row(i);
      const T most = detail::row_max(x);
      const T shift = std::isinf(most) ? T(0) : most;
      T sum = 0;
      for (Index j = 0; j < x.extent(0); ++j) sum += std::exp(x[j] - shift);
      a.out[i] = shift + std::log(sum);
    }
  }
};

struct RowNormsRef {
  static constexpr std::string_view name = "row_norms:ref";
  static constexpr Isa isa = Isa::portable;
  template <class T>
  static const char* reject(const RowReduceArgs<T>&) {
    return nullptr;
  }
  template <class T>
  static void run(const RowReduceArgs<T>& a, RowRange rows) noexcept {
    for (Index i = rows.begin; i < rows.end; ++i) {
      const auto x = a.X.row(i);
      T sum = 0;
      for (Index j = 0; j < x.extent(0); ++j) sum += x[j] * x[j];
      a.out[i] = std::sqrt(sum);
    }
  }
};

struct RmsnormRef {
  static constexpr std::string_view name = "rmsnorm:ref";
  static constexpr Isa isa = Isa::portable;
  template <class T>
  static const char* reject(const RmsnormArgs<T>&) {
    return nullptr;
  }
  template <class T>
  static void run(const RmsnormArgs<T>& a, RowRange rows) noexcept {
    for (Index i = rows.begin; i < rows.end; ++i) {
      const auto x = a.X.row(i);
      const auto y = a.Y.row(i);
      T sum = 0;
      for (Index j = 0; j < x.extent(0); ++j) sum += x[j] * x[j];
      const T inverse = T(1) / std::sqrt(sum / static_cast<T>(x.extent(0)) + a.eps);
      for (Index j = 0; j < x.extent(0); ++j) y[j] = x[j] * inverse * (a.weight ? a.weight[j] : T(1));
      if (a.inv_rms.data()) a.inv_rms[i] = inverse;
    }
  }
};

struct LayernormRef {
  static constexpr std::string_view name = "layernorm:ref";
  static constexpr Isa isa = Isa::portable;
  template <class T>
  static const char* reject(const LayernormArgs<T>&) {
    return nullptr;
  }
  template <class T>
  static void run(const LayernormArgs<T>& a, RowRange rows) noexcept {
    for (Index i = rows.begin; i < rows.end; ++i) {
      const auto x = a.X.row(i);
      const auto y = a.Y.row(i);
      const T count = static_cast<T>(x.extent(0));
      T sum = 0;
      for (Index j = 0; j < x.extent(0); ++j) sum += x[j];
      const T mean = sum / count;
      T squares = 0;
      for (Index j = 0; j < x.extent(0); ++j) squares += (x[j] - mean) * (x[j] - mean);
      const T inverse = T(1) / std::sqrt(squares / count + a.eps);
      for (Index j = 0; j < x.extent(0); ++j)
        y[j] = (x[j] - mean) * inverse * (a.weight ? a.weight[j] : T(1)) + (a.bias ? a.bias[j] : T(0));
      if (a.mean.data()) a.mean[i] = mean;
      if (a.inv_std.data()) a.inv_std[i] = inverse;
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI
