/// The discrete Fourier transform of one vector: the only function through which this library calls an FFT.
#pragma once

#include <complex>
#include <concepts>
#include <unsupported/Eigen/FFT>

#include <tessera/core/config.hpp>

namespace tessera::inline TESSERA_ABI {

/// out_k = sum over i of in_i exp(∓2πi·ik/n), minus forwards; nothing is divided by n. Any n; fast where its prime
/// factors are small. `in` and `out` must not overlap.
template <std::floating_point S>
void fft(Index n, bool inverse, const std::complex<S>* in, std::complex<S>* out) {
  if (n <= 1) {
    if (n == 1) out[0] = in[0];
    return;
  }
  thread_local Eigen::FFT<S> plans(typename Eigen::FFT<S>::impl_type(), Eigen::FFT<S>::Unscaled);
  if (inverse)
    plans.inv(out, in, n);
  else
    plans.fwd(out, in, n);
}

}  // namespace tessera::inline TESSERA_ABI
