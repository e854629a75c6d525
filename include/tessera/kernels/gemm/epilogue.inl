// An epilogue's pass over a block of C. Included once a lane like map/loop.inl, after `load_sums` and `store_as` of the
// lane.

template <class Lane>
struct FinishLoop {
  template <class Job, class T>
  TESSERA_FLATTEN static void run(const void* what, bool turned, MatrixView<T> block, Index row, Index col) noexcept {
    using V = simd::Vec<typename Job::Real, Lane>;
    using Out = typename Job::Out;
    const Job& job = *static_cast<const Job*>(what);
    const Index rs = block.row_stride(), cs = block.col_stride();
    Out* out = nullptr;
    Index ors = rs, ocs = cs;
    if constexpr (Job::elsewhere) {
      ors = turned ? job.out.col_stride() : job.out.row_stride();
      ocs = turned ? job.out.row_stride() : job.out.col_stride();
      out = job.out.data() + row * ors + col * ocs;
    } else {
      out = block.data();
    }
    for (Index i = 0; i < block.rows(); ++i)
      for (Index j = 0; j < block.cols(); j += V::width) {
        const Index n = block.cols() - j < V::width ? block.cols() - j : V::width;
        const T* from = block.data() + i * rs + j * cs;
        const epilogue::Place at{row + i, col + j, n, turned};
        V x;
        if constexpr (std::is_integral_v<T>)
          load_sums(job, at, from, cs, x);
        else
          x = n == V::width && cs == 1 ? V::load(from) : detail::map_load<V>(from, cs, 0, n);
        const V y = job.steps(x, at);
        Out* to = out + i * ors + j * ocs;
        if constexpr (std::is_same_v<Out, typename Job::Real>) {
          if (n == V::width && ocs == 1)
            y.store(to);
          else
            detail::map_store(y, to, ocs, 0, n);
        } else {
          store_as(y, to, ocs, n);
        }
      }
  }
};
