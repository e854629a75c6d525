// The attention of every lane, over simd::Vec. Included once inside each lane's namespace and target region, because
// templates take the target of the place where they are written.
//
// Many rows: vectors lie along the rows (queries), so keys and values are read in place, one broadcast number at a
// time, and the softmax has no horizontal step. Q and the output are held transposed: (d, rows).
// Few rows (decode): vectors lie along d, and each key or value of a tile serves all rows while it is in L1.

/// Rows (vectors of them) and keys or channels that one register tile holds.
template <class V, int NR>
struct AttentionShape {
  static constexpr bool wide = sizeof(typename V::value_type) * V::width == 64;  // 32 registers
  static constexpr int most_rows = wide ? 4 : 2;
  static constexpr int cols = wide ? (NR == 1 ? 12 : 24 / NR) : (NR == 1 ? 10 : 6);
  static constexpr Index few_rows = wide ? 8 : 4;  // at most so many rows go along d
};

/// e^x for x <= 0, below 2 ulp; 0 for -inf, NaN for NaN. Taylor to r^7 on |r| <= ln(2)/2.
template <class V>
V weight_exp(const V& x) {
  if constexpr (std::is_same_v<typename V::value_type, float> && requires { ldexp(nearest(x), fnma(x, x, x)); }) {
    const V bounded = max(V(-104.0f), x);  // underflows to 0; max keeps the NaN of its second operand
    const V n = nearest(bounded * V(1.44269504088896341f));
    const V r = fnma(n, V(-2.12194440e-4f), fnma(n, V(0.693359375f), bounded));
    V p = fma(V(1.0f / 5040), r, V(1.0f / 720));
    p = fma(p, r, V(1.0f / 120));
    p = fma(p, r, V(1.0f / 24));
    p = fma(p, r, V(1.0f / 6));
    p = fma(p, r, V(0.5f));
    p = fma(p, r, V(1.0f));
    return ldexp(fma(p, r, V(1.0f)), n);
  } else {
    return exp(x);
  }
}

template <class V>
struct AttentionTiles {
  using T = typename V::value_type;
  using Args = AttentionArgs<T>;
  static constexpr Index W = V::width;
  static constexpr Index tile = Args::tile_tokens;
  static constexpr Index block = Args::block_rows;
  static constexpr T infinity = std::numeric_limits<T>::infinity();

  static std::size_t scratch(const Args& a) {  // K tile, V tile, Q, out, scores, rows' state
    return static_cast<std::size_t>(2 * tile * a.d + 2 * block * (a.d + W) + block * tile + 4 * block) * sizeof(T);
  }

  static void run(const Args& a, RowRange pieces) noexcept {
    T* const k = reinterpret_cast<T*>(a.scratch_of(pieces.worker));
    T* const v = k + tile * a.d;
    for (Index p = pieces.begin; p < pieces.end; ++p) {
      const auto piece = a.piece(p);
      if (piece.rows <= AttentionShape<V, 1>::few_rows)
        few(a, piece, k, v);
      else
        many(a, piece, k, v);
    }
  }

 private:
  static const T* query(const Args& a, Index kv_head, Index r) {
    return a.Q.data() + (kv_head * a.group + r % a.group) * a.Q.stride(0) + r / a.group * a.Q.stride(1);
  }
  static T* result(const Args& a, Index kv_head, Index r, Index split) {
    return a.out.data() + split * a.out_split + (kv_head * a.group + r % a.group) * a.out.stride(0) +
           r / a.group * a.out.stride(1);
  }
  static void put_lse(const Args& a, Index kv_head, Index r, Index split, T top, T total) {
    if (a.lse.data() == nullptr) return;
    a.lse.data()[split * a.lse_split + (kv_head * a.group + r % a.group) * a.lse.stride(0) +
                 r / a.group * a.lse.stride(1)] = total == 0 ? -infinity : top + std::log(total);
  }

  // ---- many rows --------------------------------------------------------------------------------------------------

  /// y (count, ld) = x (count, d; stride xs) * q (d, ld), ld = NR * W.
  template <int NR, int N>
  static void scores(const T* q, const T* x, Index xs, Index d, Index count, T* y) {
    constexpr Index ld = NR * W;
    for (; count >= N; count -= N, x += N * xs, y += N * ld) {
      V acc[N][NR];
      TESSERA_ATTENTION_UNROLL
      for (int j = 0; j < N; ++j) {
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < NR; ++r) acc[j][r] = V(T(0));
      }
      for (Index c = 0; c < d; ++c) {
        V rows[NR];
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < NR; ++r) rows[r] = V::load(q + c * ld + r * W);
        TESSERA_ATTENTION_UNROLL
        for (int j = 0; j < N; ++j) {
          const V one(x[j * xs + c]);
          TESSERA_ATTENTION_UNROLL
          for (int r = 0; r < NR; ++r) acc[j][r] = fma(one, rows[r], acc[j][r]);
        }
      }
      TESSERA_ATTENTION_UNROLL
      for (int j = 0; j < N; ++j) {
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < NR; ++r) acc[j][r].store(y + j * ld + r * W);
      }
    }
    if constexpr (N > 1) {
      if (count > 0) scores<NR, (N > 3 ? N / 3 : 1)>(q, x, xs, d, count, y);
    }
  }

  /// out (d, ld) = alpha (ld) * out + x^T (d, count; stride xs) * y (count, ld).
  template <int NR, int N>
  static void mix(const T* y, const T* x, Index xs, Index d, Index count, const T* alpha, T* out) {
    constexpr Index ld = NR * W;
    for (; d >= N; d -= N, x += N, out += N * ld) {
      V acc[N][NR];
      TESSERA_ATTENTION_UNROLL
      for (int c = 0; c < N; ++c) {
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < NR; ++r) acc[c][r] = V::load(out + c * ld + r * W) * V::load(alpha + r * W);
      }
      for (Index j = 0; j < count; ++j) {
        V rows[NR];
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < NR; ++r) rows[r] = V::load(y + j * ld + r * W);
        TESSERA_ATTENTION_UNROLL
        for (int c = 0; c < N; ++c) {
          const V one(x[j * xs + c]);
          TESSERA_ATTENTION_UNROLL
          for (int r = 0; r < NR; ++r) acc[c][r] = fma(one, rows[r], acc[c][r]);
        }
      }
      TESSERA_ATTENTION_UNROLL
      for (int c = 0; c < N; ++c) {
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < NR; ++r) acc[c][r].store(out + c * ld + r * W);
      }
    }
    if constexpr (N > 1) {
      if (d > 0) mix<NR, (N > 3 ? N / 3 : 1)>(y, x, xs, d, count, alpha, out);
    }
  }

  /// Scores (count, ld) of W rows to weights; `limit` (W) tokens of the tile are visible, all if null.
  static void weigh(T* y, Index ld, Index count, const T* limit, T* top, T* total, T* alpha) {
    const V before = V::load(top);
    V most = before;
    if (limit != nullptr) {
      const V visible = V::load(limit);
      for (Index j = 0; j < count; ++j) {
        const V score = select(V(static_cast<T>(j)) < visible, V::load(y + j * ld), V(-infinity));
        score.store(y + j * ld);
        most = max(most, score);
      }
    } else {
      for (Index j = 0; j < count; ++j) most = max(most, V::load(y + j * ld));
    }
    const V base = select(most == V(-infinity), V(T(0)), most);  // nothing seen yet: all weights 0, not NaN
    V sum(T(0));
    for (Index j = 0; j < count; ++j) {
      const V weight = weight_exp(V::load(y + j * ld) - base);
      weight.store(y + j * ld);
      sum = sum + weight;
    }
    const V fade = weight_exp(before - base);
    fade.store(alpha);
    (V::load(total) * fade + sum).store(total);
    most.store(top);
  }

  template <int NR>
  static void strip(const Args& a, const T* k, Index ks, const T* v, Index vs, Index count, const T* limit, const T* q,
                    T* y, T* out, T* top, T* total, T* alpha) {
    constexpr Index ld = NR * W;
    constexpr int N = AttentionShape<V, NR>::cols;
    scores<NR, N>(q, k, ks, a.d, count, y);
    for (Index r = 0; r < NR; ++r)
      weigh(y + r * W, ld, count, limit == nullptr ? nullptr : limit + r * W, top + r * W, total + r * W,
            alpha + r * W);
    mix<NR, N>(y, v, vs, a.d, count, alpha, out);
  }

  static Index strip_rows(Index left) {
    constexpr Index most = AttentionShape<V, 1>::most_rows * W;
    return std::min(most, (left + W - 1) / W * W);
  }

  static void many(const Args& a, const typename Args::Piece& piece, T* k_tile, T* v_tile) {
    const Index d = a.d, h = piece.kv_head;
    T* const q = v_tile + tile * d;
    T* const out = q + block * (d + W);
    T* const y = out + block * (d + W);
    T* const top = y + block * tile;
    T* const total = top + block;
    T* const limit = total + block;
    T* const alpha = limit + block;
    for (Index s = 0; s < piece.rows;) {
      const Index ld = strip_rows(piece.rows - s);
      for (Index r = 0; r < ld; ++r) {
        top[s + r] = -infinity;
        total[s + r] = 0;
        if (s + r < piece.rows) {
          const T* const row = query(a, h, piece.row + s + r);
          for (Index c = 0; c < d; ++c) q[s * d + c * ld + r] = row[c] * a.scale;
        } else {
          for (Index c = 0; c < d; ++c) q[s * d + c * ld + r] = 0;
        }
      }
      s += ld;
    }
    std::fill_n(out, strip_end(piece.rows) * d, T(0));
    for (Index j = piece.begin; j < piece.end; j += tile) {
      const Index count = std::min(tile, piece.end - j);
      Index ks = 0, vs = 0;
      const T* const k = a.keys.tile(a.keys.state, h, j, count, k_tile, ks);
      const T* const v = a.values.tile(a.values.state, h, j, count, v_tile, vs);
      for (Index s = 0; s < piece.rows;) {
        const Index ld = strip_rows(piece.rows - s);
        bool all = true, any = false;
        for (Index r = 0; r < ld; ++r) {
          const Index row = std::min(piece.row + s + r, piece.row + piece.rows - 1);
          const Index seen = std::clamp<Index>(a.visible_to(h, row / a.group) - j, 0, count);
          limit[s + r] = static_cast<T>(seen);
          all = all && seen == count;
          any = any || seen > 0;
        }
        const T* const cut = all ? nullptr : limit + s;
        if (any) switch (ld / W) {
            case 1:
              strip<1>(a, k, ks, v, vs, count, cut, q + s * d, y, out + s * d, top + s, total + s, alpha);
              break;
            case 2:
              strip<2>(a, k, ks, v, vs, count, cut, q + s * d, y, out + s * d, top + s, total + s, alpha);
              break;
            default:
              if constexpr (AttentionShape<V, 1>::most_rows == 4) {
                if (ld == 3 * W)
                  strip<3>(a, k, ks, v, vs, count, cut, q + s * d, y, out + s * d, top + s, total + s, alpha);
                else
                  strip<4>(a, k, ks, v, vs, count, cut, q + s * d, y, out + s * d, top + s, total + s, alpha);
              }
          }
        s += ld;
      }
    }
    for (Index s = 0; s < piece.rows;) {
      const Index ld = strip_rows(piece.rows - s);
      for (Index r = 0; r < ld && s + r < piece.rows; ++r) {
        T* const row = result(a, h, piece.row + s + r, piece.split);
        const T sum = total[s + r], one = sum == 0 ? T(0) : 1 / sum;
        for (Index c = 0; c < d; ++c) row[c] = out[s * d + c * ld + r] * one;
        put_lse(a, h, piece.row + s + r, piece.split, top[s + r], sum);
      }
      s += ld;
    }
  }
  static Index strip_end(Index rows) { return (rows + W - 1) / W * W; }

  // ---- few rows ---------------------------------------------------------------------------------------------------

  /// Tokens to prefetch ahead: keys and values take turns, a tile each, which hardware prefetchers follow badly.
  static constexpr Index ahead = 16;

  /// y (R rows, stride tile) of N keys.
  template <int R, int N>
  static void dots(const T* q, Index qs, const T* k, Index ks, Index d, Index count, T* y) {
    for (; count >= N; count -= N, k += N * ks, y += N) {
      V acc[N][R];
      TESSERA_ATTENTION_UNROLL
      for (int j = 0; j < N; ++j) {
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < R; ++r) acc[j][r] = V(T(0));
      }
      Index c = 0;
      for (; c + W <= d; c += W) {
        V rows[R];
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < R; ++r) rows[r] = V::load(q + r * qs + c);
        TESSERA_ATTENTION_UNROLL
        for (int j = 0; j < N; ++j) {
          const V key = V::load(k + j * ks + c);
          __builtin_prefetch(k + (j + ahead) * ks + c);
          TESSERA_ATTENTION_UNROLL
          for (int r = 0; r < R; ++r) acc[j][r] = fma(rows[r], key, acc[j][r]);
        }
      }
      if (c < d) {
        TESSERA_ATTENTION_UNROLL
        for (int j = 0; j < N; ++j) {
          const V key = V::load(k + j * ks + c, d - c);
          TESSERA_ATTENTION_UNROLL
          for (int r = 0; r < R; ++r) acc[j][r] = fma(V::load(q + r * qs + c), key, acc[j][r]);
        }
      }
      TESSERA_ATTENTION_UNROLL
      for (int j = 0; j < N; ++j) {
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < R; ++r) y[r * tile + j] = reduce_add(acc[j][r]);
      }
    }
    if constexpr (N > 1) {
      if (count > 0) dots<R, 1>(q, qs, k, ks, d, count, y);
    }
  }

  /// out (R rows, stride qs) = alpha * out + y (R, count; stride tile) * v; Z vectors of channels at a time.
  template <int R, int Z>
  static void blend(const T* y, const T* v, Index vs, Index d, Index count, const T* alpha, T* out, Index qs) {
    for (; d >= Z * W; d -= Z * W, v += Z * W, out += Z * W) {
      V acc[R][Z];
      TESSERA_ATTENTION_UNROLL
      for (int r = 0; r < R; ++r) {
        TESSERA_ATTENTION_UNROLL
        for (int z = 0; z < Z; ++z) acc[r][z] = V::load(out + r * qs + z * W) * V(alpha[r]);
      }
      for (Index j = 0; j < count; ++j) {
        V channels[Z];
        TESSERA_ATTENTION_UNROLL
        for (int z = 0; z < Z; ++z) {
          channels[z] = V::load(v + j * vs + z * W);
          __builtin_prefetch(v + (j + ahead) * vs + z * W);
        }
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < R; ++r) {
          const V weight(y[r * tile + j]);
          TESSERA_ATTENTION_UNROLL
          for (int z = 0; z < Z; ++z) acc[r][z] = fma(weight, channels[z], acc[r][z]);
        }
      }
      TESSERA_ATTENTION_UNROLL
      for (int r = 0; r < R; ++r) {
        TESSERA_ATTENTION_UNROLL
        for (int z = 0; z < Z; ++z) acc[r][z].store(out + r * qs + z * W);
      }
    }
    if constexpr (Z > 1) {
      blend<R, Z / 2>(y, v, vs, d, count, alpha, out, qs);
    } else if (d > 0) {
      for (int r = 0; r < R; ++r) {
        V acc = V::load(out + r * qs) * V(alpha[r]);
        for (Index j = 0; j < count; ++j) acc = fma(V(y[r * tile + j]), V::load(v + j * vs, d), acc);
        acc.store(out + r * qs);  // rows are padded to a whole vector
      }
    }
  }

  /// One row's scores to weights; y is padded to whole vectors with -inf.
  static void weigh_row(T* y, Index seen, T& top, T& total, T& alpha) {
    const Index padded = (seen + W - 1) / W * W;
    for (Index j = seen; j < padded; ++j) y[j] = -infinity;
    V highest(top);
    for (Index j = 0; j < padded; j += W) highest = max(highest, V::load(y + j));
    const T most = reduce_max(highest), base = most == -infinity ? T(0) : most;
    V sum(T(0));
    for (Index j = 0; j < padded; j += W) {
      const V weight = weight_exp(V::load(y + j) - V(base));
      weight.store(y + j);
      sum = sum + weight;
    }
    alpha = std::exp(top - base);
    total = total * alpha + reduce_add(sum);
    top = most;
  }

  template <int R>
  static void few_tile(const T* k, Index ks, const T* v, Index vs, Index d, Index count, const Index* seen, const T* q,
                       T* y, T* out, Index qs, T* top, T* total, T* alpha) {
    constexpr bool wide = AttentionShape<V, 1>::wide;
    dots<R, (R == 4 && !wide ? 2 : 4)>(q, qs, k, ks, d, count, y);
    for (int r = 0; r < R; ++r) {
      weigh_row(y + r * tile, seen[r], top[r], total[r], alpha[r]);
      for (Index j = (seen[r] + W - 1) / W * W; j < count; ++j) y[r * tile + j] = 0;
    }
    blend<R, (wide ? (R == 4 ? 4 : 8) : (R == 4 ? 2 : 4))>(y, v, vs, d, count, alpha, out, qs);
  }

  static void few(const Args& a, const typename Args::Piece& piece, T* k_tile, T* v_tile) {
    const Index d = a.d, h = piece.kv_head, rows = piece.rows, qs = (d + W - 1) / W * W;
    T* const q = v_tile + tile * d;
    T* const out = q + block * (d + W);
    T* const y = out + block * (d + W);
    T top[8], total[8], alpha[8];
    Index seen[8];
    for (Index r = 0; r < rows; ++r) {
      top[r] = -infinity;
      total[r] = 0;
      const T* const row = query(a, h, piece.row + r);
      for (Index c = 0; c < d; ++c) q[r * qs + c] = row[c] * a.scale;
      for (Index c = d; c < qs; ++c) q[r * qs + c] = 0;
    }
    std::fill_n(out, rows * qs, T(0));
    for (Index j = piece.begin; j < piece.end; j += tile) {
      const Index count = std::min(tile, piece.end - j);
      Index ks = 0, vs = 0;
      const T* const k = a.keys.tile(a.keys.state, h, j, count, k_tile, ks);
      const T* const v = a.values.tile(a.values.state, h, j, count, v_tile, vs);
      for (Index r = 0; r < rows; ++r)
        seen[r] = std::clamp<Index>(a.visible_to(h, (piece.row + r) / a.group) - j, 0, count);
      for (Index r = 0; r < rows;) {
        if (rows - r >= 4) {
          few_tile<4>(k, ks, v, vs, d, count, seen + r, q + r * qs, y, out + r * qs, qs, top + r, total + r, alpha + r);
          r += 4;
        } else if (rows - r >= 2) {
          few_tile<2>(k, ks, v, vs, d, count, seen + r, q + r * qs, y, out + r * qs, qs, top + r, total + r, alpha + r);
          r += 2;
        } else {
          few_tile<1>(k, ks, v, vs, d, count, seen + r, q + r * qs, y, out + r * qs, qs, top + r, total + r, alpha + r);
          r += 1;
        }
      }
    }
    for (Index r = 0; r < rows; ++r) {
      T* const row = result(a, h, piece.row + r, piece.split);
      const T one = total[r] == 0 ? T(0) : 1 / total[r];
      for (Index c = 0; c < d; ++c) row[c] = out[r * qs + c] * one;
      put_lse(a, h, piece.row + r, piece.split, top[r], total[r]);
    }
  }
};
