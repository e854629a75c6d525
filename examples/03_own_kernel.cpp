// Your own kernel: an operation y = max(a*x, 0) with a portable and an AVX2 kernel in one list. The list takes the
// first that this processor has and that does not refuse; a kernel can be forced, and the choice explained.
#include <algorithm>
#include <cstdio>
#include <string>
#include <tessera/kernels/kernel.hpp>
#include <tessera/simd/target.hpp>
#include <vector>

using tessera::Index;

struct ScaledReluArgs : tessera::KernelArgs {
  const float* x;  // (n)
  float* y;        // (n)
  Index n;
  float a;
};

struct ScaledReluRef {
  static constexpr std::string_view name = "scaled_relu:ref";
  static constexpr tessera::Isa isa = tessera::Isa::portable;
  static const char* reject(const ScaledReluArgs&) { return nullptr; }
  static void run(const ScaledReluArgs& args, tessera::RowRange rows) noexcept {
    for (Index i = rows.begin; i < rows.end; ++i) args.y[i] = std::max(args.a * args.x[i], 0.0f);
  }
};

#if TESSERA_X86
// Compiled for AVX2 whatever the flags of this file are, and only called where the processor has it.
TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)
struct ScaledReluAvx2 {
  static constexpr std::string_view name = "scaled_relu:avx2";
  static constexpr tessera::Isa isa = tessera::Isa::avx2;
  static const char* reject(const ScaledReluArgs& args) { return args.n < 8 ? "fewer than 8 elements" : nullptr; }
  static void run(const ScaledReluArgs& args, tessera::RowRange rows) noexcept {
    const __m256 a = _mm256_set1_ps(args.a), zero = _mm256_setzero_ps();
    Index i = rows.begin;
    for (; i + 8 <= rows.end; i += 8)
      _mm256_storeu_ps(args.y + i, _mm256_max_ps(_mm256_mul_ps(a, _mm256_loadu_ps(args.x + i)), zero));
    ScaledReluRef::run(args, {i, rows.end});
  }
};
TESSERA_TARGET_END
using ScaledReluKernels = tessera::KernelList<ScaledReluAvx2, ScaledReluRef>;
#else
using ScaledReluKernels = tessera::KernelList<ScaledReluRef>;
#endif

std::vector<float> scaled_relu(tessera::Context& ctx, float a, const std::vector<float>& x) {
  std::vector<float> y(x.size());
  const ScaledReluArgs args{{}, x.data(), y.data(), static_cast<Index>(x.size()), a};
  tessera::launch(ctx, ScaledReluKernels::select(ctx, args), args, args.n, 4096);
  return y;
}

int main() {
  std::vector<float> x(10001);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 7) - 3.0f;

  tessera::Context ctx(tessera::thread_pool(2));
  const auto fast = scaled_relu(ctx, 0.5f, x);
  ctx.force("scaled_relu:ref");
  const auto reference = scaled_relu(ctx, 0.5f, x);
  ctx.unforce("scaled_relu");

  const ScaledReluArgs small{{}, x.data(), nullptr, 5, 0.5f};
  ScaledReluKernels::explain(ctx, small, [](std::string_view name, const std::string& why) {
    std::printf("%s: %s\n", std::string(name).c_str(), why.empty() ? "chosen" : why.c_str());
  });
  const bool ok = fast == reference && ScaledReluKernels::select(ctx, small).name == "scaled_relu:ref";
  std::puts(ok ? "ok" : "FAILED: the kernels differ");
  return ok ? 0 : 1;
}
