// int8 and uint8 factors for a lane `Bytes` whose multiplication takes four unsigned bytes times four signed ones, or
// `Pairs` that takes two 16-bit integers. Included after words.inl.

/// Unsigned bytes of A times signed bytes of B, exactly: 128 is added to or taken from what is otherwise, and
/// (a - za)(b - zb) summed is ab - zb * Σa - za * Σb + k za zb. A panel begins with the sums of its lines.
template <class W, Index Rows>
struct ByteOps : WordOps<W, Rows> {
  using WordOps<W, Rows>::nr;
  static constexpr Index k_unit = 4;
  static Index packed_k(Index k) { return (k + 3) / 4 + 1; }

  template <class Args, class TX>
  static void pack_a(const Args&, const TX* src, Index lane_stride, Index k_stride, Index lanes, Index k,
                     std::uint32_t* out) noexcept {
    constexpr bool flip = std::is_signed_v<TX>;
    PackWords<TX>::run(src, lane_stride, k_stride, lanes, lanes, k, static_cast<TX>(flip ? -128 : 0), out + lanes);
    finish<flip, true>(out, lanes, lanes, (k + 3) / 4);
  }
  template <class Args, class TX>
  static void pack_b(const Args&, const TX* src, Index lane_stride, Index k_stride, Index lanes, Index k,
                     std::uint32_t* out) noexcept {
    constexpr bool flip = std::is_unsigned_v<TX>;
    PackWords<TX>::run(src, lane_stride, k_stride, lanes, nr, k, static_cast<TX>(flip ? 128 : 0), out + nr);
    finish<flip, false>(out, lanes, nr, (k + 3) / 4);
  }
  template <class Args>
  static void tile(const Args& args, Index rows, Index cols, Index k, TileA<std::uint32_t> a, const std::uint32_t* b,
                   Index, std::int32_t beta, std::int32_t* c, Index ldc) noexcept {
    using TA = typename decltype(args.A)::value_type;
    using TB = typename decltype(args.B)::value_type;
    ByteOps::multiply(rows, cols, (k + 3) / 4, a.data + rows, b + nr, args.alpha, beta, c, ldc);
    const auto alpha = static_cast<std::uint32_t>(args.alpha);
    const auto za = static_cast<std::uint32_t>(args.zero_a + (std::is_signed_v<TA> ? 128 : 0));
    const auto zb = static_cast<std::uint32_t>(args.zero_b - (std::is_signed_v<TB> ? 0 : 128));
    if (za == 0 && zb == 0) return;
    std::uint32_t across[nr];
    for (Index j = 0; j < nr; ++j) across[j] = alpha * za * (static_cast<std::uint32_t>(k) * zb - b[j]);
    for (Index i = 0; i < rows; ++i) {
      const auto down = W::factor(static_cast<std::int32_t>(0u - alpha * zb * a.data[i]));
      Index j = 0;
      for (; j + W::lanes <= cols; j += W::lanes)
        W::store(c + i * ldc + j, W::add(W::load(c + i * ldc + j), W::add(down, W::load(across + j))));
      if (j < cols) {
        const auto mask = W::first(cols - j);
        W::store(mask, c + i * ldc + j, W::add(W::load(mask, c + i * ldc + j), W::add(down, W::load(across + j))));
      }
    }
  }

 private:
  /// Makes the bytes of a panel (un)signed and sums its lines.
  template <bool Flip, bool Unsigned>
  static void finish(std::uint32_t* out, Index lanes, Index width, Index groups) noexcept {
    const auto flip = W::all(0x80808080u), ones = W::all(0x01010101u);
    if constexpr (Flip) {
      std::uint32_t* p = out + width;
      Index left = groups * width;
      for (; left >= W::lanes; left -= W::lanes, p += W::lanes) W::store(p, W::exclusive(W::load(p), flip));
      for (; left > 0; --left, ++p) *p ^= 0x80808080u;
    }
    for (Index l = 0; l < lanes; l += W::lanes) {
      auto sum = W::zero();
      Index g = 0;
      for (; g < groups && (g + 1) * width + l + W::lanes <= (groups + 1) * width; ++g) {
        const auto bytes = W::load(out + (g + 1) * width + l);
        sum = Unsigned ? W::fma(bytes, ones, sum) : W::fma(ones, bytes, sum);
      }
      std::uint32_t sums[W::lanes];
      W::store(sums, sum);
      for (; g < groups; ++g)  // whole vectors would reach beyond the panel
        for (Index r = 0; r < W::lanes && l + r < lanes; ++r)
          for (int e = 0; e < 32; e += 8) {
            const auto byte = static_cast<std::uint8_t>(out[(g + 1) * width + l + r] >> e);
            sums[r] +=
                Unsigned ? byte : static_cast<std::uint32_t>(static_cast<std::int32_t>(static_cast<std::int8_t>(byte)));
          }
      for (Index r = 0; r < W::lanes && l + r < lanes; ++r) out[l + r] = sums[r];
    }
  }
};
