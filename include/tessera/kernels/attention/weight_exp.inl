// The exponential of softmax weights, over simd::Vec, inside each lane's namespace and target region.

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
