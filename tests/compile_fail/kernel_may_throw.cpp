// expect: Kernel<|constraints not satisfied for variable template .entries
#include <tessera/kernels/kernel.hpp>

struct Args : tessera::KernelArgs {};
struct Scale {
  static constexpr std::string_view name = "scale:ref";
  static constexpr tessera::Isa isa = tessera::Isa::portable;
  static const char* reject(const Args&) { return nullptr; }
#ifdef CONTROL
  static void run(const Args&, tessera::RowRange) noexcept {}
#else
  static void run(const Args&, tessera::RowRange) {}
#endif
};
const auto& chosen(const tessera::Context& ctx) { return tessera::KernelList<Scale>::select(ctx, Args{}); }
