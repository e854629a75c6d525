// int8 and uint8 factors where no instruction multiplies bytes exactly. Included after words.inl.

/// Their differences from the zero points fit 16 bits, pairs of which are multiplied and added in 32.
template <class W, Index Rows>
struct PairOps : WordOps<W, Rows> {
  using WordOps<W, Rows>::nr;
  static constexpr Index k_unit = 2;
  static Index packed_k(Index k) { return (k + 1) / 2; }

  template <class Args, class TX>
  static void pack_a(const Args& args, const TX* src, Index lane_stride, Index k_stride, Index lanes, Index k,
                     std::uint32_t* out) noexcept {
    pack(src, lane_stride, k_stride, lanes, lanes, k, args.zero_a, out);
  }
  template <class Args, class TX>
  static void pack_b(const Args& args, const TX* src, Index lane_stride, Index k_stride, Index lanes, Index k,
                     std::uint32_t* out) noexcept {
    pack(src, lane_stride, k_stride, lanes, nr, k, args.zero_b, out);
  }
  template <class Args>
  static void tile(const Args& args, Index rows, Index cols, Index k, TileA<std::uint32_t> a, const std::uint32_t* b,
                   Index, std::int32_t beta, std::int32_t* c, Index ldc) noexcept {
    PairOps::multiply(rows, cols, (k + 1) / 2, a.data, b, args.alpha, beta, c, ldc);
  }

 private:
  template <class TX>
  static void pack(const TX* src, Index lane_stride, Index k_stride, Index lanes, Index width, Index k,
                   std::int32_t zero, std::uint32_t* out) noexcept {
    for (Index i = 0; i < k; i += 2)
      for (Index l = 0; l < lanes; ++l) {
        const TX* from = src + l * lane_stride + i * k_stride;
        const std::int32_t low = *from - zero, high = i + 1 < k ? from[k_stride] - zero : 0;
        out[i / 2 * width + l] = (static_cast<std::uint32_t>(high) << 16) | (static_cast<std::uint32_t>(low) & 0xffffu);
      }
  }
};
