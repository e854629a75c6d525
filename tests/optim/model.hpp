/// A small set of parameters and gradients.
#pragma once

#include <cstring>
#include <span>
#include <tessera/optim/parameters.hpp>

#include "support/oracle.hpp"

namespace tessera::optim {

using test::random_buffer;

/// Two blocks, a matrix and a vector, with a gradient each.
template <class T>
struct Model {
  Buffer<T> w, b, dw, db;
  Parameters<T> params, grads;
  Model(Index rows, Index cols)
      : w(random_buffer<T>(rows * cols, 1)),
        b(random_buffer<T>(cols, 2)),
        dw(random_buffer<T>(rows * cols, 3)),
        db(random_buffer<T>(cols, 4)),
        params{{"w", MatrixView<T>(w.data(), rows, cols)}, {"b", std::span<T>(b)}},
        grads{{"w", MatrixView<T>(dw.data(), rows, cols)}, {"b", std::span<T>(db)}} {}
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;
  /// The next gradients, a function of the step alone.
  void draw(Index step) {
    dw = random_buffer<T>(dw.size(), 100 + static_cast<std::uint64_t>(step));
    db = random_buffer<T>(db.size(), 200 + static_cast<std::uint64_t>(step));
    grads[0].data = dw.data();
    grads[1].data = db.data();
  }
};

template <class T>
bool same_bits(const Buffer<T>& a, const Buffer<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.bytes()) == 0;
}

}  // namespace tessera::optim
