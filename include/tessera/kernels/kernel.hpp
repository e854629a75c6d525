/// How an operation finds its kernel: a list in order of preference, each entry with its ISA and its reasons to refuse.
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include <tessera/core/config.hpp>
#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/simd/isa.hpp>

namespace tessera::inline TESSERA_ABI {

/// The rows of the output a call is to write. `worker` names the scratch it may use.
struct RowRange {
  Index begin = 0;
  Index end = 0;
  Index worker = 0;
};

/// Base of every operation's arguments: per-worker scratch, filled in by `launch`.
struct KernelArgs {
  std::byte* scratch = nullptr;
  std::size_t scratch_bytes = 0;  // of one worker, a multiple of 64
  std::byte* scratch_of(Index worker) const { return scratch + static_cast<std::size_t>(worker) * scratch_bytes; }
};

/// `name` is "op:isa"; `reject` returns nullptr or the reason in words; `run` writes only its rows. A kernel that needs
/// scratch says how much with `static std::size_t scratch(const Args&)`.
template <class K, class Args>
concept Kernel = requires(const Args& args, RowRange rows) {
  { K::name } -> std::convertible_to<std::string_view>;
  { K::isa } -> std::convertible_to<Isa>;
  { K::reject(args) } -> std::convertible_to<const char*>;
  { K::run(args, rows) }
  noexcept;
};

namespace detail {

/// "", or why kernels of `isa` cannot run here.
inline std::string why_not(Isa isa) {
  if (!compiled_isa.has(isa)) return concat("needs ", isa_name(isa), ", which TESSERA_ISA_LIMIT leaves out");
  if (!active_isa().has(isa)) return concat("needs ", isa_name(isa));
  return {};
}

/// A kernel that was not taken, and why.
struct Refusal {
  std::string_view kernel;
  std::string why;
};

[[noreturn]] TESSERA_NOINLINE inline void no_kernel(std::string_view forced, std::span<const Refusal> refusals) {
  std::string names;
  for (const auto& [kernel, why] : refusals) {
    if (kernel == forced) throw unsupported_error(concat("tessera: forced kernel ", forced, ": ", why));
    names += concat(' ', kernel, " (", why, ')');
  }
  throw unsupported_error(
      forced.empty() ? concat("tessera: no kernel of ", op_of(refusals[0].kernel), " takes these arguments:", names)
                     : concat("tessera: forced kernel ", forced, " is not one of:", names));
}

}  // namespace detail

template <class Args>
struct KernelEntry {
  std::string_view name;
  Isa isa = Isa::portable;
  const char* (*reject)(const Args&) = nullptr;
  void (*run)(const Args&, RowRange) noexcept = nullptr;
  std::size_t (*scratch)(const Args&) = nullptr;

  /// "", or why this kernel cannot run `args` here.
  std::string why_not(const Args& args) const {
    if (const std::string why = detail::why_not(isa); !why.empty()) return why;
    const char* reason = reject(args);
    return reason == nullptr ? "" : reason;
  }
  bool accepts(const Args& args) const { return active_isa().has(isa) && reject(args) == nullptr; }
};

namespace detail {
template <class K, class Args>
constexpr KernelEntry<Args> kernel_entry() {
  KernelEntry<Args> entry{K::name, K::isa, &K::reject};
  if constexpr (compiled_isa.has(K::isa)) {
    entry.run = &K::run;
    if constexpr (requires(const Args& args) { K::scratch(args); }) entry.scratch = &K::scratch;
  }
  return entry;
}
}  // namespace detail

template <class... Kernels>
struct KernelList {
  static constexpr std::size_t size = sizeof...(Kernels);

  /// In order. Not inline, so that TESSERA_SHARED(…entries<Args>()) leaves the kernels to another unit.
  template <class Args>
  static std::span<const KernelEntry<Args>, size> entries();

  /// The forced kernel, else the first whose ISA is active and which does not refuse.
  /// Throws unsupported_error if the forced one is unknown or refuses, or none is left.
  template <class Args>
  static const KernelEntry<Args>& select(const Context& ctx, const Args& args) {
    const auto all = entries<Args>();
    const std::string_view forced = ctx.forced(detail::op_of(all[0].name));
    for (const auto& kernel : all)
      if ((forced.empty() || kernel.name == forced) && kernel.accepts(args)) return kernel;
    std::array<detail::Refusal, size> refusals;
    for (std::size_t i = 0; i < size; ++i) refusals[i] = {all[i].name, all[i].why_not(args)};
    detail::no_kernel(forced, refusals);
  }

  /// `f(name, why)` for every entry in order; `why` is "" for the one `select` takes, "not needed" for later ones
  /// that would do, else the reason it was passed over.
  template <class Args, class F>
  static void explain(const Context& ctx, const Args& args, F&& f) {
    const auto& chosen = select(ctx, args);
    for (const auto& kernel : entries<Args>()) {
      if (kernel.name == chosen.name) {
        f(kernel.name, std::string());
        continue;
      }
      const std::string why = kernel.why_not(args);
      f(kernel.name, !why.empty()                                     ? why
                     : ctx.forced(detail::op_of(kernel.name)).empty() ? "not needed"
                                                                      : "another is forced");
    }
  }
};

template <class... Kernels>
template <class Args>
std::span<const KernelEntry<Args>, KernelList<Kernels...>::size> KernelList<Kernels...>::entries() {
  static_assert((Kernel<Kernels, Args> && ...));
  static constexpr std::array<KernelEntry<Args>, size> all{detail::kernel_entry<Kernels, Args>()...};
  return all;
}

/// What KernelList::entries returns.
template <class List, class Args>
using KernelEntries = std::span<const KernelEntry<Args>, List::size>;

/// Runs `kernel` over `rows` output rows in pieces of `grain` rows.
template <class Args>
void launch(Context& ctx, const KernelEntry<Args>& kernel, Args args, Index rows, Index grain) {
  if (rows <= 0) return;
  Workspace::Scope scope(ctx.workspace);
  const Index pieces = (rows + grain - 1) / grain;
  const bool alone = pieces == 1 || ctx.concurrency() == 1;
  if (kernel.scratch != nullptr) {
    args.scratch_bytes = (kernel.scratch(args) + cache_line - 1) / cache_line * cache_line;
    args.scratch = scope.take<std::byte>(static_cast<Index>(args.scratch_bytes) * (alone ? 1 : ctx.concurrency()));
  }
  if (alone) {
    for (Index p = 0; p < pieces; ++p) kernel.run(args, {p * grain, std::min(rows, (p + 1) * grain), 0});
    return;
  }
  ctx.run(pieces, [&](Index p, Index w) { kernel.run(args, {p * grain, std::min(rows, (p + 1) * grain), w}); });
}

}  // namespace tessera::inline TESSERA_ABI
