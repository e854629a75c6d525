/// What this processor and its operating system allow, as a set of independent features.
#pragma once

#include <array>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include <tessera/core/config.hpp>
#include <tessera/core/error.hpp>

#if TESSERA_X86
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace tessera::inline TESSERA_ABI {

/// One hot-lane target each. A feature stands for all its target string names (see simd/target.hpp), so a kernel needs
/// one feature only. `portable` is what the unit's own flags allow.
enum class Isa : std::uint32_t {
  portable = 0,
  avx2 = 1u << 0,           // avx2 fma f16c bmi bmi2 lzcnt popcnt
  avx_vnni = 1u << 1,       // avx2 + 256-bit vpdpbusd
  avx512 = 1u << 2,         // f cd bw dq vl, and avx2
  avx512_vnni = 1u << 3,    // avx512 + vpdpbusd
  avx512_bf16 = 1u << 4,    // avx512 + vdpbf16ps
  avx512_fp16 = 1u << 5,    // avx512 + half arithmetic
  avx512_vbmi = 1u << 6,    // avx512 + vbmi vbmi2
  avx512_popcnt = 1u << 7,  // avx512 + vpopcntdq bitalg
  amx_bf16 = 1u << 8,       // avx512 + amx-tile amx-bf16, permission granted
  amx_int8 = 1u << 9,       // avx512 + amx-tile amx-int8, permission granted
};

/// A set of features; `portable` is in every set.
class IsaSet {
 public:
  constexpr IsaSet() = default;
  explicit constexpr IsaSet(std::uint32_t bits) : bits_(bits) {}
  constexpr bool has(Isa isa) const {
    const auto bit = static_cast<std::uint32_t>(isa);
    return (bits_ & bit) == bit;
  }
  constexpr IsaSet with(Isa isa) const { return IsaSet(bits_ | static_cast<std::uint32_t>(isa)); }
  constexpr std::uint32_t bits() const { return bits_; }
  friend constexpr IsaSet operator&(IsaSet a, IsaSet b) { return IsaSet(a.bits_ & b.bits_); }
  friend constexpr bool operator==(IsaSet, IsaSet) = default;

 private:
  std::uint32_t bits_ = 0;
};

namespace detail {

struct IsaName {
  std::string_view name;
  Isa isa;
  std::uint32_t implies;  // what `TESSERA_ISA=name` allows besides
};

inline constexpr std::uint32_t isa_avx2 = static_cast<std::uint32_t>(Isa::avx2);
inline constexpr std::uint32_t isa_avx512 = isa_avx2 | static_cast<std::uint32_t>(Isa::avx512);
inline constexpr std::uint32_t isa_vnni = isa_avx512 | static_cast<std::uint32_t>(Isa::avx512_vnni);
inline constexpr std::array<IsaName, 11> isa_names{{
    {"portable", Isa::portable, 0},
    {"avx2", Isa::avx2, 0},
    {"avx_vnni", Isa::avx_vnni, isa_avx2},
    {"avx512", Isa::avx512, isa_avx2},
    {"avx512_vnni", Isa::avx512_vnni, isa_avx512},
    {"avx512_bf16", Isa::avx512_bf16, isa_avx512},
    {"avx512_fp16", Isa::avx512_fp16, isa_avx512},
    {"avx512_vbmi", Isa::avx512_vbmi, isa_avx512},
    {"avx512_popcnt", Isa::avx512_popcnt, isa_avx512},
    {"amx_bf16", Isa::amx_bf16, isa_vnni},
    {"amx_int8", Isa::amx_int8, isa_vnni},
}};

constexpr IsaSet with_implied(Isa isa) {
  for (const auto& entry : isa_names)
    if (entry.isa == isa) return IsaSet(static_cast<std::uint32_t>(isa) | entry.implies);
  return {};
}

#if TESSERA_X86
inline std::uint64_t read_xcr0() {
  std::uint32_t low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (std::uint64_t{high} << 32) | low;
}

/// Linux hands out AMX tile state only on request, once a process.
inline bool request_amx() {
#if defined(__linux__) && defined(SYS_arch_prctl)
  constexpr int request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
  return false;
#endif
}

inline IsaSet detect_isa() {
  std::uint32_t a = 0, b = 0, c = 0, d = 0;
  const auto bit = [](std::uint32_t word, int i) { return ((word >> i) & 1u) != 0; };
  if (__get_cpuid(1, &a, &b, &c, &d) == 0) return {};
  if (!bit(c, 27) || !bit(c, 28) || !bit(c, 12) || !bit(c, 29) || !bit(c, 23))
    return {};  // osxsave avx fma f16c popcnt
  const std::uint64_t state = read_xcr0();
  if ((state & 0x6) != 0x6) return {};  // xmm ymm
  std::uint32_t b7 = 0, c7 = 0, d7 = 0, a71 = 0, highest = 0;
  if (__get_cpuid_count(7, 0, &highest, &b7, &c7, &d7) == 0) return {};
  if (!bit(b7, 5) || !bit(b7, 3) || !bit(b7, 8)) return {};                    // avx2 bmi bmi2
  if (__get_cpuid(0x80000001u, &a, &b, &c, &d) == 0 || !bit(c, 5)) return {};  // lzcnt
  if (highest >= 1) {
    std::uint32_t b71 = 0, c71 = 0, d71 = 0;
    __cpuid_count(7, 1, a71, b71, c71, d71);
  }
  IsaSet set = IsaSet().with(Isa::avx2);
  if (bit(a71, 4)) set = set.with(Isa::avx_vnni);
  const bool zmm_state = (state & 0xe6) == 0xe6;
  const bool base512 = bit(b7, 16) && bit(b7, 17) && bit(b7, 28) && bit(b7, 30) && bit(b7, 31);  // f dq cd bw vl
  if (!zmm_state || !base512) return set;
  set = set.with(Isa::avx512);
  if (bit(c7, 11)) set = set.with(Isa::avx512_vnni);
  if (bit(a71, 5)) set = set.with(Isa::avx512_bf16);
  if (bit(d7, 23)) set = set.with(Isa::avx512_fp16);
  if (bit(c7, 1) && bit(c7, 6)) set = set.with(Isa::avx512_vbmi);
  if (bit(c7, 12) && bit(c7, 14)) set = set.with(Isa::avx512_popcnt);
  if (bit(d7, 24) && (state & 0x60000) == 0x60000 && (bit(d7, 22) || bit(d7, 25)) && request_amx()) {
    if (bit(d7, 22)) set = set.with(Isa::amx_bf16);
    if (bit(d7, 25)) set = set.with(Isa::amx_int8);
  }
  return set;
}
#else
inline IsaSet detect_isa() { return {}; }
#endif

}  // namespace detail

/// The features whose kernels are compiled: all, or where TESSERA_ISA_LIMIT is defined as one's name that and what it
/// builds on. Units for processors that are known compile in a fraction of the time (-DTESSERA_ISA_LIMIT=avx2).
#if defined(TESSERA_ISA_LIMIT)
inline constexpr IsaSet compiled_isa = detail::with_implied(Isa::TESSERA_ISA_LIMIT);
#else
inline constexpr IsaSet compiled_isa(~std::uint32_t{0});
#endif

inline std::string_view isa_name(Isa isa) {
  for (const auto& entry : detail::isa_names)
    if (entry.isa == isa) return entry.name;
  return "unknown";
}

/// "avx2 avx512 …", or "portable".
inline std::string isa_text(IsaSet set) {
  std::string text;
  for (const auto& entry : detail::isa_names)
    if (entry.isa != Isa::portable && set.has(entry.isa)) text += detail::concat(text.empty() ? "" : " ", entry.name);
  return text.empty() ? "portable" : text;
}

/// The set named by a comma-separated list: each name with all it builds on ("avx512_vnni" → avx2 avx512 avx512_vnni).
/// Throws unsupported_error for a name that is none.
inline IsaSet parse_isa(std::string_view list) {
  std::uint32_t bits = 0;
  while (!list.empty()) {
    const auto comma = list.find(',');
    const auto name = list.substr(0, comma);
    bool known = false;
    for (const auto& entry : detail::isa_names)
      if (entry.name == name) {
        bits |= static_cast<std::uint32_t>(entry.isa) | entry.implies;
        known = true;
      }
    if (!known) {
      std::string names;
      for (const auto& entry : detail::isa_names) names += detail::concat(' ', entry.name);
      throw unsupported_error(detail::concat("tessera: TESSERA_ISA names '", name, "'; expected some of", names));
    }
    list = comma == std::string_view::npos ? std::string_view{} : list.substr(comma + 1);
  }
  return IsaSet(bits);
}

/// Every feature that this processor and operating system have. Asks for AMX permission at the first call.
inline IsaSet cpu_isa() {
  static const IsaSet set = detail::detect_isa();
  return set;
}

namespace detail {
/// What a test's emulator adds to the processor's features. Nothing in the library writes it.
inline constinit IsaSet emulated_isa{};
}  // namespace detail

/// `cpu_isa()`, restricted to what the environment's TESSERA_ISA allows where it is set and to `compiled_isa`. Read
/// once a process.
inline IsaSet active_isa() {
  static const IsaSet set = [] {
    const char* wanted = std::getenv("TESSERA_ISA");
    return wanted == nullptr || *wanted == '\0' ? cpu_isa() : cpu_isa() & parse_isa(wanted);
  }();
  return IsaSet(set.bits() | detail::emulated_isa.bits()) & compiled_isa;
}

}  // namespace tessera::inline TESSERA_ABI
