// What a project does first with the library: an Eigen matrix and a view of the same numbers.
#include <Eigen/Dense>
#include <cstdio>
#include <tessera/core/context.hpp>
#include <tessera/core/view.hpp>
#include <tessera/simd/isa.hpp>
#include <xsimd/xsimd.hpp>

int main() {
  Eigen::MatrixXf X = Eigen::MatrixXf::Identity(3, 4);
  const tessera::MatrixView<const float> view(X.data(), {3, 4}, {1, 3});
  tessera::Context ctx(tessera::thread_pool(2));
  float trace[3] = {};
  ctx.run(3, [&](tessera::Index i, tessera::Index) { trace[i] = view(i, i); });
  std::printf("tessera %d.%d on %s\n", TESSERA_VERSION_MAJOR, TESSERA_VERSION_MINOR,
              tessera::isa_text(tessera::active_isa()).c_str());
  return trace[0] + trace[1] + trace[2] == 3.0f ? 0 : 1;
}
