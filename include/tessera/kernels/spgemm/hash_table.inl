// The hash table of one lane, which gives `match` (which of eight keys are this one) under its own target.

template <class I>
struct Table {  // eight keys a bucket, whole buckets probed one after another
  I* keys;
  I* place;
  std::uint32_t buckets;  // a power of two

  void clear() const {
    for (Index s = 0; s < 8 * static_cast<Index>(buckets); ++s) keys[s] = I(-1);
  }
  std::uint32_t home(I key) const {
    const std::uint64_t mixed = static_cast<std::uint64_t>(key) * 0x9E3779B97F4A7C15u;
    return static_cast<std::uint32_t>(mixed >> 40) & (buckets - 1);
  }
  /// The slot of `key`, or -1 - the free slot where it belongs.
  Index find(I key) const {
    for (std::uint32_t b = home(key);; b = (b + 1) & (buckets - 1)) {
      const I* bucket = keys + 8 * static_cast<Index>(b);
      if (const unsigned hit = match(bucket, key); hit != 0) return 8 * static_cast<Index>(b) + __builtin_ctz(hit);
      if (const unsigned free = match(bucket, I(-1)); free != 0)
        return -1 - (8 * static_cast<Index>(b) + __builtin_ctz(free));
    }
  }
};
