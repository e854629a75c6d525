#include <gtest/gtest.h>

#include <stdexcept>
#include <string>

#include "kv/memory.hpp"
#include "kv/soak.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

const Store& store(const std::string& name) {
  for (const Store& one : all_stores())
    if (one.name() == name) return one;
  throw std::invalid_argument(name);
}

constexpr std::size_t most = std::size_t{16} << 20;

TEST(Soak, ThousandsOfCallsHoldWhatIsKnown) {
  Soak(store("F32Virtual"), 0).run(6000, most);
  Soak(store("F32Paged"), 0).run(4000, most);
  Soak(store("Int8Virtual"), 0.01f).run(4000, most);
  Soak(store("Kivi2Paged"), 1).run(4000, most);
  Soak(store("Kivi4"), 1).run(4000, most);
}

/// A million calls on small caches of few channels, for what is looked for is in the lists of tokens: shared by the
/// storages and by codecs that hold their tokens in different ways.
TEST(Soak, AMillionCallsLeakNothing) {
  struct Life {
    const char* store;
    float within;
    Index kv_heads, calls;
  };
  constexpr float any = 1e6f;  // what is coded again and again is finite; where it is, is known
  const Life lives[] = {{"F32", 0, 1, 380000},           {"F32Virtual", 0, 2, 40000}, {"F32Paged", 0, 3, 150000},
                        {"Int8", 0.01f, 2, 150000},      {"Kivi2", any, 1, 80000},    {"Kivi3Paged", any, 2, 80000},
                        {"Kivi4Virtual", any, 1, 20000}, {"Zip", any, 2, 50000},      {"ZipVirtual", any, 1, 10000},
                        {"Gear", any, 1, 30000},         {"GearPaged", any, 1, 10000}};
  Context ctx;
  const auto all = [&](Index of) {
    for (const Life& life : lives) {
      SCOPED_TRACE(life.store);
      Soak(store(life.store), life.within, life.kv_heads, 60, 8).run(life.calls / of, most);
    }
  };
  all(100);
  const Index files = open_files(), mapped = mappings();
  const double before = resident_mib(ctx);
  all(sanitized ? 1 : 25);  // all of them where it is seen what they read; in time without: SoakSlow
  EXPECT_EQ(open_files(), files) << "of pages that forks share";
  if (measures_residence) {
    EXPECT_LT(mappings(), mapped + 20);
    EXPECT_LT(resident_mib(ctx), before + 8);
  }
}

void leaks_nothing(const Store& store, float within, Index calls) {
  Context ctx;
  Soak(store, within).run(calls / 20, most);
  const Index files = open_files(), mapped = mappings();
  const double before = resident_mib(ctx);
  Soak(store, within).run(calls, most);
  EXPECT_EQ(open_files(), files);
  EXPECT_LT(mappings(), mapped + 20);
  if (measures_residence) {
    EXPECT_LT(resident_mib(ctx), before + 8);
  }
}
TEST(SoakSlow, AMillionCallsLeakNothing) { leaks_nothing(store("F32Virtual"), 0, 1000000); }
TEST(SoakSlow, AMillionCallsOnCodesLeakNothing) { leaks_nothing(store("Int8Virtual"), 0.01f, 1000000); }
TEST(SoakSlow, ManyCallsOnBlocksLeakNothing) { leaks_nothing(store("Kivi2Paged"), 1, 200000); }
TEST(SoakSlow, ManyCallsOnLowBitsLeakNothing) { leaks_nothing(store("Kivi4Virtual"), 1, 200000); }

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera::test
