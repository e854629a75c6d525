// Products of every sparse format, type of value and pattern with the dense matrix, either way up.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <support/sparse_patterns.hpp>
#include <tessera/matrix/bitmap.hpp>
#include <tessera/matrix/bsr.hpp>
#include <tessera/matrix/coo.hpp>
#include <tessera/matrix/csc.hpp>
#include <tessera/matrix/csr.hpp>
#include <tessera/matrix/csr_delta.hpp>
#include <tessera/matrix/dia.hpp>
#include <tessera/matrix/hypersparse.hpp>
#include <tessera/matrix/nm.hpp>
#include <tessera/matrix/quantized_sparse.hpp>
#include <tessera/matrix/sell.hpp>
#include <tessera/matrix/tiled_csl.hpp>

namespace tessera::test {
namespace TESSERA_TEST_FILE {

/// What Y := alpha·op(A)·X + beta·Y may be, of one pattern: computed once, compared with many formats.
template <class S>
class Products {
 public:
  template <class T>
  Products(const Coo<T>& list, Index most_columns) {
    for (const Op op : {Op::none, Op::transpose})
      for (const Case& c :
           {Case{1, 1, 0, false}, {7, S(-0.5), 2, false}, {most_columns, 1, 0, false}, {5, 3, S(0.25), true}})
        cases_.emplace_back(list, op, c);
  }

  template <class A>
  void expect(const char* format, const A& a) const {
    SCOPED_TRACE(format);
    Context ctx;
    for (const auto& c : cases_) c.expect(ctx, a);
  }

 private:
  struct Case {
    Index columns;
    S alpha, beta;
    bool by_columns;  // how X and Y lie in memory
  };
  struct Expected {
    template <class T>
    Expected(const Coo<T>& list, Op o, Case what)
        : op(o),
          c(what),
          rows(o == Op::none ? list.rows : list.cols),
          depth(o == Op::none ? list.cols : list.rows),
          x(random_buffer<S>(depth * c.columns, 5)),
          y(random_buffer<S>(rows * c.columns, 6)),
          value(static_cast<std::size_t>(rows * c.columns)),
          size(value.size()) {
      for (std::size_t e = 0; e < list.value.size(); ++e) {
        const Index i = op == Op::none ? list.row[e] : list.col[e], k = op == Op::none ? list.col[e] : list.row[e];
        for (Index j = 0; j < c.columns; ++j) {
          const double term = static_cast<double>(static_cast<float>(list.value[e])) * view(x, depth)(k, j);
          value[at(i, j)] += term;
          size[at(i, j)] += std::abs(term);
        }
      }
      for (Index i = 0; i < rows; ++i)
        for (Index j = 0; j < c.columns; ++j) {
          const double before = c.beta == S(0) ? 0.0 : static_cast<double>(c.beta) * view(y, rows)(i, j);
          value[at(i, j)] = static_cast<double>(c.alpha) * value[at(i, j)] + before;
          size[at(i, j)] = std::abs(static_cast<double>(c.alpha)) * size[at(i, j)] + std::abs(before);
        }
    }

    template <class A>
    void expect(Context& ctx, const A& a) const {
      Buffer<S> out = y;
      if (c.beta == S(0)) std::fill(out.begin(), out.end(), std::numeric_limits<S>::quiet_NaN());
      const MatrixView<S> Y = view(out, rows);
      a.apply(ctx, op, c.alpha, view(x, depth), c.beta, Y);
      const double unit = gamma<S>(static_cast<double>(depth) + 3);
      for (Index i = 0; i < rows; ++i)
        for (Index j = 0; j < c.columns; ++j)
          if (!(std::abs(static_cast<double>(Y(i, j)) - value[at(i, j)]) <= unit * size[at(i, j)])) {
            ADD_FAILURE() << (op == Op::none ? "" : "transposed, ") << c.columns << " columns at (" << i << ", " << j
                          << "): " << Y(i, j) << ", expected " << value[at(i, j)];
            return;
          }
    }

    std::size_t at(Index i, Index j) const { return static_cast<std::size_t>(i * c.columns + j); }
    template <class Values>
    auto view(Values& values, Index height) const {
      using E = std::remove_reference_t<decltype(*values.data())>;
      return c.by_columns ? MatrixView<E>(values.data(), c.columns, height).transposed()
                          : MatrixView<E>(values.data(), height, c.columns);
    }

    Op op;
    Case c;
    Index rows, depth;
    Buffer<S> x, y;
    std::vector<double> value, size;  // (rows, columns): the product and the sum of the magnitudes of its terms
  };
  std::vector<Expected> cases_;
};

/// The first n entries of each m columns of a row: none of them more than an N:M matrix holds.
template <class T>
Csr<T> thinned(const Csr<T>& A, Index n, Index m) {
  Coo<T> list = to_coo(A), kept{list.rows, list.cols, {}, {}, {}, {}};
  Index row = -1, group = -1, held = 0;
  for (std::size_t e = 0; e < list.value.size(); ++e) {
    if (list.row[e] != row || list.col[e] / m != group) held = 0;
    row = list.row[e];
    group = list.col[e] / m;
    if (held++ >= n) continue;
    kept.row.push_back(row);
    kept.col.push_back(list.col[e]);
    kept.value.push_back(list.value[e]);
  }
  return csr_from_coo<T>(kept);
}

template <class T>
void expect_all_formats() {
  using S = accum_t<T>;
  for (const auto& [name, list] : sparse_patterns<T>()) {
    SCOPED_TRACE(name);
    const Products<S> products(list, name == "power law" ? 512 : 33);
    const Csr<T> A = csr_from_coo<T>(list);
    products.expect("csr", A);
    const Csr<T, std::int64_t> wide = csr_from_coo<T, std::int64_t>(list);
    products.expect("csr, 64-bit indices", wide);
    products.expect("csc, 64-bit indices", csc_from_csr(wide));
    products.expect("hypersparse, 64-bit indices", hypersparse_from_csr(wide));
    products.expect("bsr 3x5, 64-bit indices", bsr_from_csr(wide, 3, 5));
    products.expect("sell 8, 64-bit indices", sell_from_csr(wide, 8, 64));
    products.expect("coo, 64-bit indices", coo_matrix<T, std::int64_t>(list));
    products.expect("coo", coo_matrix<T>(twice(list)));
    products.expect("csc", csc_from_csr(A));
    products.expect("bsr 4x1", bsr_from_csr(A, 4, 1));
    products.expect("bsr 16x1", bsr_from_csr(A, 16, 1));
    products.expect("bsr 3x5", bsr_from_csr(A, 3, 5));
    products.expect("sell", sell_from_csr(A));
    products.expect("sell 5, 7", sell_from_csr(A, 5, 7));
    products.expect("4:4", nm_from_csr(A, 4, 4));
    products.expect("7:7", nm_from_csr(A, 7, 7));
    products.expect("tiled csl", tiled_csl_from_csr(A));
    products.expect("bitmap", bitmap_from_csr(A));
    products.expect("dia", dia_from_csr(A));
    products.expect("hypersparse", hypersparse_from_csr(A));
    products.expect("csr delta", csr_delta_from_csr(A));
    for (const auto& [n, m] : {std::pair<Index, Index>{2, 4}, {1, 4}, {4, 8}, {3, 32}}) {
      const Csr<T> few = thinned(A, n, m);
      Products<S>(to_coo(few), 33).expect(detail::concat(n, ":", m).c_str(), nm_from_csr(few, n, m));
    }
  }
}

TEST(SparseProducts, OfFloats) { expect_all_formats<float>(); }
TEST(SparseProducts, OfDoubles) { expect_all_formats<double>(); }
TEST(SparseProducts, OfHalves) { expect_all_formats<bf16>(); }
TEST(SparseProducts, OfBytes) { expect_all_formats<Int8Code>(); }

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera::test
