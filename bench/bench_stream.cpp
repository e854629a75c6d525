/// STREAM through `map`, against hand-written loops compiled for this machine at -O3. stream/<op>/f32/<elements>;
/// GB/s of what is read and written. The roof is a copy or a triad in intrinsics (simd/roof.hpp).
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>

#include <harness.hpp>
#include <peer_stream.hpp>
#include <tessera/kernels/map/map.hpp>

namespace {

using namespace tessera;

struct Copy {
  template <class V>
  TESSERA_INLINE void operator()(V& a, const V& b) const {
    a = b;
  }
};
struct Scale {
  float s;
  template <class V>
  TESSERA_INLINE void operator()(V& a, const V& b) const {
    a = V(s) * b;
  }
};
struct Add {
  template <class V>
  TESSERA_INLINE void operator()(V& a, const V& b, const V& c) const {
    a = b + c;
  }
};
struct Triad {
  float s;
  template <class V>
  TESSERA_INLINE void operator()(V& a, const V& b, const V& c) const {
    a = b + V(s) * c;
  }
};

struct Arrays {
  Context ctx;
  Buffer<float> a, b, c;
  explicit Arrays(Index n) : a(n), b(n), c(n) {}
  VectorView<float> out() { return {a.data(), a.size()}; }
  static VectorView<const float> in(const Buffer<float>& x) { return {x.data(), x.size()}; }
};

template <class Ours, class Loop>
void stream_row(const std::string& op, Index n, int arrays, Ours ours, Loop loop) {
  auto all = std::make_shared<std::unique_ptr<Arrays>>();
  const auto memory = [=]() -> Arrays& {
    if (!*all) *all = std::make_unique<Arrays>(n);
    return **all;
  };
  const auto roof = [=] {
    auto& m = memory();
    const Index times = std::max<Index>(1, (Index{1} << 20) / n);
    return arrays == 2 ? roof::copy(m.a, m.b, times) : roof::triad(m.a, m.b, m.c, times);
  };
  bench::row(tessera::detail::concat("stream/", op, "/f32/", n), "GBs",
             static_cast<double>(arrays) * sizeof(float) * static_cast<double>(n), roof, [=] { ours(memory()); },
             {{"loop", [=] { loop(memory()); }}});
}

}  // namespace

int main(int argc, char** argv) {
  constexpr float s = 0.5f;
  for (Index n : {Index{1} << 12, Index{1} << 17, Index{1} << 24}) {
    stream_row(
        "copy", n, 2, [](Arrays& m) { map(m.ctx, Copy{}, m.out(), Arrays::in(m.b)); },
        [=](Arrays& m) { peers::copy(m.a.data(), m.b.data(), n); });
    stream_row(
        "scale", n, 2, [](Arrays& m) { map(m.ctx, Scale{s}, m.out(), Arrays::in(m.b)); },
        [=](Arrays& m) { peers::scale(m.a.data(), m.b.data(), s, n); });
    stream_row(
        "add", n, 3, [](Arrays& m) { map(m.ctx, Add{}, m.out(), Arrays::in(m.b), Arrays::in(m.c)); },
        [=](Arrays& m) { peers::add(m.a.data(), m.b.data(), m.c.data(), n); });
    stream_row(
        "triad", n, 3, [](Arrays& m) { map(m.ctx, Triad{s}, m.out(), Arrays::in(m.b), Arrays::in(m.c)); },
        [=](Arrays& m) { peers::triad(m.a.data(), m.b.data(), m.c.data(), s, n); });
  }
  std::printf("isa %s\n", isa_text(active_isa()).c_str());
  return bench::run_rows(argc, argv);
}
