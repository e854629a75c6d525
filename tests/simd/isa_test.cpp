#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>
#include <string>

#include <tessera/simd/isa.hpp>

namespace tessera {
namespace TESSERA_TEST_FILE {

TEST(Isa, SetsHoldWhatWasPut) {
  const IsaSet none;
  EXPECT_TRUE(none.has(Isa::portable));
  EXPECT_FALSE(none.has(Isa::avx2));
  const IsaSet two = none.with(Isa::avx2).with(Isa::amx_int8);
  EXPECT_TRUE(two.has(Isa::avx2) && two.has(Isa::amx_int8));
  EXPECT_FALSE(two.has(Isa::avx512));
  EXPECT_EQ(two & none.with(Isa::avx2), none.with(Isa::avx2));
  EXPECT_EQ(isa_text(none), "portable");
  EXPECT_EQ(isa_text(two), "avx2 amx_int8");
}

TEST(Isa, NamesAreParsedWithWhatTheyBuildOn) {
  EXPECT_EQ(parse_isa("portable"), IsaSet());
  EXPECT_EQ(parse_isa(""), IsaSet());
  EXPECT_EQ(parse_isa("avx2"), IsaSet().with(Isa::avx2));
  const IsaSet vnni = parse_isa("avx512_vnni");
  EXPECT_TRUE(vnni.has(Isa::avx2) && vnni.has(Isa::avx512) && vnni.has(Isa::avx512_vnni));
  EXPECT_FALSE(vnni.has(Isa::avx512_bf16));
  EXPECT_EQ(parse_isa("avx2,avx_vnni"), IsaSet().with(Isa::avx2).with(Isa::avx_vnni));
  for (const auto& entry : detail::isa_names) {
    EXPECT_TRUE(parse_isa(entry.name).has(entry.isa)) << entry.name;
    EXPECT_EQ(isa_name(entry.isa), entry.name);
  }
}

TEST(Isa, UnknownNamesAreRefusedWithTheKnownOnes) {
  for (const char* list : {"avx1024", "avx2,avx1024", "AVX2", " avx2", "avx2,,avx512"}) {
    try {
      parse_isa(list);
      ADD_FAILURE() << list;
    } catch (const unsupported_error& e) {
      const std::string message = e.what();
      EXPECT_NE(message.find("TESSERA_ISA"), std::string::npos);
      EXPECT_NE(message.find("avx512_vnni"), std::string::npos) << message;
    }
  }
}

TEST(Isa, ActiveIsTheProcessorWithinTheEnvironment) {
  const char* wanted = std::getenv("TESSERA_ISA");
  const IsaSet expected = wanted == nullptr || *wanted == '\0' ? cpu_isa() : cpu_isa() & parse_isa(wanted);
  EXPECT_EQ(active_isa(), expected & compiled_isa);
  EXPECT_TRUE(active_isa().has(Isa::portable));
}

TEST(Isa, AgreesWithTheKernel) {
#if TESSERA_X86 && defined(__linux__)
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  std::set<std::string> flags;
  while (flags.empty() && std::getline(file, line))
    if (line.rfind("flags", 0) == 0) {
      std::istringstream words(line.substr(line.find(':') + 1));
      for (std::string word; words >> word;) flags.insert(word);
    }
  if (flags.empty()) GTEST_SKIP() << "no flags in /proc/cpuinfo";
  const auto all = [&](std::initializer_list<const char*> names) {
    for (const char* name : names)
      if (flags.count(name) == 0) return false;
    return true;
  };
  const bool avx2 = all({"avx2", "fma", "f16c"});
  const bool avx512 = avx2 && all({"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"});
  const IsaSet set = cpu_isa();
  EXPECT_EQ(set.has(Isa::avx2), avx2);
  EXPECT_EQ(set.has(Isa::avx_vnni), avx2 && all({"avx_vnni"}));
  EXPECT_EQ(set.has(Isa::avx512), avx512);
  EXPECT_EQ(set.has(Isa::avx512_vnni), avx512 && all({"avx512_vnni"}));
  EXPECT_EQ(set.has(Isa::avx512_bf16), avx512 && all({"avx512_bf16"}));
  EXPECT_EQ(set.has(Isa::avx512_fp16), avx512 && all({"avx512_fp16"}));
  EXPECT_EQ(set.has(Isa::avx512_vbmi), avx512 && all({"avx512vbmi", "avx512_vbmi2"}));
  EXPECT_EQ(set.has(Isa::avx512_popcnt), avx512 && all({"avx512_vpopcntdq", "avx512_bitalg"}));
  EXPECT_TRUE(!set.has(Isa::amx_bf16) || all({"amx_tile", "amx_bf16"}));
  EXPECT_TRUE(!set.has(Isa::amx_int8) || all({"amx_tile", "amx_int8"}));
#else
  EXPECT_EQ(cpu_isa(), IsaSet());
#endif
}

}  // namespace
}  // namespace tessera
