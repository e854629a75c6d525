/// The DFT over the index of n blocks, which makes a block-circulant matrix block-diagonal.
#pragma once

#include <complex>

#include <tessera/core/context.hpp>
#include <tessera/core/view.hpp>
#include <tessera/matrix/fft.hpp>

namespace tessera::inline TESSERA_ABI::detail {

/// How many frequencies tell the others, which are their conjugates, of n reals.
inline Index half_spectrum(Index n) { return n / 2 + 1; }
/// Lines of one chunk: neighbours in memory as a rule, so that a cache line read for one is there for all.
inline constexpr Index lines_at_once = 16;

/// put(l, f, z) for the frequencies f <= n/2 of each of `lines` lines of n reals get(l, k), two lines at a time.
template <class S, class Get, class Put>
void dft_of_lines(Context& ctx, Index n, Index lines, Get&& get, Put&& put) {
  using C = std::complex<S>;
  for_each_chunk(ctx, lines, lines_at_once, [&](Context& worker, Index begin, Index end) {
    Workspace::Scope scope(worker.workspace);
    C *const in = scope.take<C>(n), *const out = scope.take<C>(n);
    for (Index l = begin; l < end; l += 2) {
      const bool two = l + 1 < end;
      for (Index k = 0; k < n; ++k) in[k] = C(get(l, k), two ? get(l + 1, k) : S(0));
      fft(n, false, in, out);
      for (Index f = 0; f < half_spectrum(n); ++f) {
        const C z = out[f], w = std::conj(out[f == 0 ? 0 : n - f]);
        put(l, f, S(0.5) * (z + w));
        if (two) put(l + 1, f, S(0.5) * C(z.imag() - w.imag(), w.real() - z.real()));
      }
    }
  });
}

/// The inverse: put(l, k, x) for the n reals of the frequencies get(l, f), n times too large.
template <class S, class Get, class Put>
void lines_of_dft(Context& ctx, Index n, Index lines, Get&& get, Put&& put) {
  using C = std::complex<S>;
  for_each_chunk(ctx, lines, lines_at_once, [&](Context& worker, Index begin, Index end) {
    Workspace::Scope scope(worker.workspace);
    C *const in = scope.take<C>(n), *const out = scope.take<C>(n);
    for (Index l = begin; l < end; l += 2) {
      const bool two = l + 1 < end;
      for (Index f = 0; f < half_spectrum(n); ++f) {
        const C a = get(l, f), b = two ? get(l + 1, f) : C(0);
        if (f > 0) in[n - f] = C(a.real() + b.imag(), b.real() - a.imag());
        in[f] = C(a.real() - b.imag(), a.imag() + b.real());
      }
      fft(n, true, in, out);
      for (Index k = 0; k < n; ++k) {
        put(l, k, out[k].real());
        if (two) put(l + 1, k, out[k].imag());
      }
    }
  });
}

/// The DFT of blocks B_k (m,p), row-major, one after another: each frequency as the real (2m,2p) matrix [Re -Im; Im Re]
/// that multiplies pairs of real and imaginary parts, row-major, in `to`.
template <class P, class S>
View<const S, 3> block_spectrum(Context& ctx, Index n, Index m, Index p, const P* blocks, S* to) {
  dft_of_lines<S>(
      ctx, n, m * p, [=](Index l, Index k) { return static_cast<S>(blocks[k * m * p + l]); },
      [=](Index l, Index f, std::complex<S> z) {
        S* const at = to + f * 4 * m * p + l / p * 2 * p + l % p;
        at[0] = at[2 * m * p + p] = z.real();
        at[p] = -z.imag();
        at[2 * m * p] = z.imag();
      });
  return {to, {half_spectrum(n), 2 * m, 2 * p}, {4 * m * p, 2 * p, 1}};
}

/// The DFT over n blocks of `size` rows of each column of X (n·size,N), real parts over imaginary ones, by columns, in
/// `to`: (n/2+1, 2·size, N).
template <class S>
View<const S, 3> column_spectra(Context& ctx, Index n, Index size, MatrixView<const S> X, S* to) {
  const View<S, 3> all(to, {half_spectrum(n), 2 * size, X.cols()}, {2 * size * X.cols(), 1, 2 * size});
  dft_of_lines<S>(
      ctx, n, size * X.cols(), [=](Index l, Index k) { return X(k * size + l % size, l / size); },
      [=](Index l, Index f, std::complex<S> z) {
        all(f, l % size, l / size) = z.real();
        all(f, size + l % size, l / size) = z.imag();
      });
  return all;
}

/// Y (n·m,N) = alpha * A X (n·p,N) + beta * Y for an A that is block-diagonal in the DFT over n blocks: `multiply(from,
/// to)` is given the frequencies of up to 256 columns of X as (n/2+1, 2p, ·), real parts over imaginary ones, and makes
/// those of A X, (n/2+1, 2m, ·).
template <class S, class Multiply>
void through_block_dft(Context& ctx, Index n, Index m, Index p, S alpha, MatrixView<const S> X, S beta, MatrixView<S> Y,
                       Multiply&& multiply) {
  constexpr Index most = 256;
  const Index half = half_spectrum(n);
  const S scale = alpha / static_cast<S>(n);
  for (Index j = 0; j < X.cols(); j += most) {
    const Index w = std::min(most, X.cols() - j);
    const auto x = X.slice(1, j, w);
    const auto y = Y.slice(1, j, w);
    Workspace::Scope scope(ctx.workspace);
    const auto from = column_spectra<S>(ctx, n, p, x, scope.take<S>(half * 2 * p * w));
    const View<S, 3> to(scope.take<S>(half * 2 * m * w), {half, 2 * m, w}, {2 * m * w, 1, 2 * m});
    multiply(from, to);
    lines_of_dft<S>(
        ctx, n, m * w, [=](Index l, Index f) { return std::complex<S>(to(f, l % m, l / m), to(f, m + l % m, l / m)); },
        [=](Index l, Index k, S value) {
          S& out = y(k * m + l % m, l / m);
          out = beta == S(0) ? scale * value : scale * value + beta * out;
        });
  }
}

}  // namespace tessera::inline TESSERA_ABI::detail
