#include "kv/stores.hpp"

#include <gtest/gtest.h>

#include <numeric>
#include <set>
#include <tessera/kv/codecs/channel_shrunk.hpp>
#include <tessera/kv/codecs/gear.hpp>
#include <tessera/kv/codecs/rotated.hpp>
#include <tessera/kv/codecs/think.hpp>

namespace tessera::test {
namespace stores {  // a name, for what follows it uses what is in it

struct ShortGear : Gear<Kivi<2>> {
  ShortGear() { chunk = 64; }
};
struct ShortZip : Zip {
  ShortZip() { group = 32, recent = 16; }
};
template <class C, class Storage>
AnyKvCache made(Index kv_heads, Index d) {
  if constexpr (requires(C codec) { codec.key_maps; }) {
    C codec;
    for (Index h = 0; h < kv_heads; ++h) {  // heads have ranks of their own
      const auto map = LinearMap::leading(LinearMap::Matrix::Identity(d, d), d - (h + 1) * d / 32);
      codec.key_maps.push_back(map);
      codec.value_maps.push_back(map);
    }
    return KvCache<C, Storage>(kv_heads, d, codec);
  } else if constexpr (std::same_as<C, Think<F16>>) {
    std::vector<Index> channels(static_cast<std::size_t>(d - d / 16));  // the last are not kept
    std::iota(channels.begin(), channels.end(), Index{0});
    return KvCache<C, Storage>(kv_heads, d, {.channels = {channels}});
  } else {
    return KvCache<C, Storage>(kv_heads, d);
  }
}

std::vector<Store> list() {
  std::vector<Store> all;
  const auto add = [&]<class C>(std::type_identity<C>, const char* codec, bool window, double error) {
    all.push_back({codec, "", &made<C, Contiguous>, true, window, error});
    all.push_back({codec, "Virtual", &made<C, Virtual>, false, window, error});
    all.push_back({codec, "Paged", &made<C, PagedBy<16>>, false, window, error});
  };
  add(std::type_identity<F32>(), "F32", false, 0);
  add(std::type_identity<Bf16>(), "Bf16", false, 0.15);
  add(std::type_identity<F16>(), "F16", false, 0.15);
  add(std::type_identity<Int8>(), "Int8", false, 0.15);
  add(std::type_identity<Kivi<4>>(), "Kivi4", true, 0.15);
  add(std::type_identity<Kivi<3>>(), "Kivi3", true, 0.35);
  add(std::type_identity<Kivi<2>>(), "Kivi2", true, 0.7);
  add(std::type_identity<Stairs>(), "Stairs", false, 0.7);
  add(std::type_identity<BlockFloating<4>>(), "BlockFloating", false, 0.3);
  add(std::type_identity<Rotated<Kivi<2>>>(), "Rotated", true, 0.7);
  add(std::type_identity<ChannelShrunk<F16>>(), "Shrunk", true, 0.7);
  add(std::type_identity<ChannelShrunk<Kivi<4>>>(), "Shrunk4", true, 0.7);
  add(std::type_identity<Think<F16>>(), "Think", true, 0.7);
  add(std::type_identity<ShortGear>(), "Gear", true, 0.7);
  add(std::type_identity<ShortZip>(), "Zip", true, 0.3);
  return all;
}

TEST(Stores, AreEachCodecInEachStorage) {
  const auto all = all_stores();
  std::set<std::string> names;
  for (std::size_t i = 0; i < all.size(); ++i) {
    names.insert(all[i].name());
    EXPECT_STREQ(all[i].codec, all[i / of_a_codec * of_a_codec].codec);
    const AnyKvCache cache = all[i].make(2, 32);
    EXPECT_EQ(cache.codec(), all[i / of_a_codec * of_a_codec].make(1, 8).codec());
    EXPECT_EQ(cache.bytes(), 0u);
  }
  EXPECT_EQ(names.size(), all.size());
}

}  // namespace stores

std::span<const Store> all_stores() {
  static const std::vector<Store> all = stores::list();
  return all;
}

}  // namespace tessera::test
