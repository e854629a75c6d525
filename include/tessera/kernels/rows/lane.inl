// The row operations on one register's elements. Included once a lane, inside its target region and a namespace of its
// own, because a function takes the target of the place where it is written.

template <class Lane>
struct Softmax : RowKernel {
  template <class T>
  TESSERA_FLATTEN static void run(const SoftmaxArgs<T>& a, RowRange rows) noexcept {
    softmax_run<simd::Vec<T, Lane>>(a, rows);
  }
};

template <class Lane>
struct LogSumExp : RowKernel {
  template <class T>
  TESSERA_FLATTEN static void run(const RowReduceArgs<T>& a, RowRange rows) noexcept {
    log_sum_exp_run<simd::Vec<T, Lane>>(a, rows);
  }
};

template <class Lane>
struct RowNorms : RowKernel {
  template <class T>
  TESSERA_FLATTEN static void run(const RowReduceArgs<T>& a, RowRange rows) noexcept {
    row_norms_run<simd::Vec<T, Lane>>(a, rows);
  }
};

template <class Lane>
struct Rmsnorm : RowKernel {
  template <class T>
  TESSERA_FLATTEN static void run(const RmsnormArgs<T>& a, RowRange rows) noexcept {
    rmsnorm_run<simd::Vec<T, Lane>>(a, rows);
  }
};

template <class Lane>
struct Layernorm : RowKernel {
  template <class T>
  TESSERA_FLATTEN static void run(const LayernormArgs<T>& a, RowRange rows) noexcept {
    layernorm_run<simd::Vec<T, Lane>>(a, rows);
  }
};
