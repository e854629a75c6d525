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
    // Whole registers of neighbours take a loop of their own, which knows their count.
    constexpr bool same = std::is_same_v<T, typename Job::Real> && std::is_same_v<Out, T>;
    const Index whole = same && cs == 1 && ocs == 1 ? block.cols() / V::width * V::width : 0;
    for (Index i = 0; i < block.rows(); ++i) {
      const T* line = block.data() + i * rs;
      Out* to = out + i * ors;
      Index j = 0;
      if constexpr (same)
        for (; j < whole; j += V::width)
          job.steps(V::load(line + j), epilogue::Place{row + i, col + j, V::width, turned}).store(to + j);
      for (; j < block.cols(); j += V::width) {
        const Index n = block.cols() - j < V::width ? block.cols() - j : V::width;
        const epilogue::Place at{row + i, col + j, n, turned};
        V x;
        if constexpr (std::is_integral_v<T>)
          load_sums(job, at, line + j * cs, cs, x);
        else
          x = detail::map_load<V>(line + j * cs, cs, 0, n);
        const V y = job.steps(x, at);
        if constexpr (std::is_same_v<Out, typename Job::Real>)
          detail::map_store(y, to + j * ocs, ocs, 0, n);
        else
          store_as(y, to + j * ocs, ocs, n);
      }
    }
  }
};
