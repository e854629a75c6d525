// Writes the corpus of fuzz_cachegen into a folder: make_cachegen_corpus FOLDER. Small streams of every level, layout
// and kind, each way in which a field can lie; the same bytes each time. Truncations are the regression run's;
// beside them lie found_*, which fuzzing came upon.
#include <bit>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <tessera/core/rng.hpp>
#include <tessera/kv/cachegen.hpp>

namespace {

using namespace tessera;
using kv::Bytes;
using kv::CacheGenOptions;

struct Shape {
  Index layers, heads, tokens, d;
};

/// Numbers of one size or all alike; each of three channels 2^spread times as large as the one before.
Bytes stream(const Shape& s, const CacheGenOptions& options, Index begin = 0, float size = 1, bool constant = false,
             int spread = 1) {
  Context ctx;
  const Philox draws(7);
  std::vector<std::vector<float>> memory;
  std::vector<kv::LayerView> layers;
  std::uint64_t at = 0;
  for (Index i = 0; i < 2 * s.layers; ++i) {
    memory.emplace_back(static_cast<std::size_t>(s.heads * s.tokens * s.d));
    for (std::size_t j = 0; j < memory.back().size(); ++j)
      memory.back()[j] =
          constant ? size : std::ldexp(size, spread * static_cast<int>(j % 3)) * static_cast<float>(draws.normal(at++));
  }
  for (std::size_t l = 0; l < memory.size(); l += 2)
    layers.push_back({View<const float, 3>(memory[l].data(), {s.heads, s.tokens, s.d}),
                      View<const float, 3>(memory[l + 1].data(), {s.heads, s.tokens, s.d})});
  return kv::cachegen_encode(ctx, layers, begin, options);
}

class Folder {
 public:
  explicit Folder(std::filesystem::path path) : path_(std::move(path)) { std::filesystem::create_directories(path_); }
  void write(const std::string& name, const Bytes& bytes) const {
    std::ofstream(path_ / name, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }

 private:
  std::filesystem::path path_;
};

template <class T>
Bytes with(Bytes bytes, std::size_t at, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i) bytes[at + i] = static_cast<std::uint8_t>(value >> 8 * i);
  return bytes;
}

/// Where the states of a tensor's first code are, whose tables begin at `at`.
std::size_t states_at(const Bytes& bytes, std::size_t at, std::size_t channels) {
  const std::size_t tables = bytes[at++];
  if (tables > 1) at += channels;
  for (std::size_t m = 0; m < tables; ++m) {
    std::size_t symbols = bytes[at + 1];
    for (at += 2; symbols > 0; --symbols) at += bytes[at] < 128 ? 1 : 2;
  }
  return at;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return std::fprintf(stderr, "usage: %s FOLDER\n", argv[0]), 2;
  const Folder to(argv[1]);
  const Shape small{1, 1, 7, 3};
  for (int level = 0; level < CacheGenOptions::levels; ++level)
    to.write("level" + std::to_string(level), stream(small, {.level = level, .group = 3}));
  // Layouts: without deltas, one group, a group that the tokens do not fill; heads, layers; one table, many.
  to.write("group1", stream(small, {.group = 1}));
  to.write("group4096", stream(small, {.group = 4096}));
  to.write("one_token", stream({1, 2, 1, 2}, {}));
  to.write("one_number", stream({1, 1, 1, 1}, {}));
  to.write("heads", stream({1, 5, 4, 2}, {.group = 2}));
  to.write("three_layers", stream({3, 1, 5, 2}, {.group = 2}));
  to.write("one_model", stream({1, 1, 12, 4}, {.group = 4, .one_model = true}));
  const Bytes many = stream({1, 1, 220, 3}, {.level = 0, .step = 1}, 0, 1, false, 3);
  to.write("many_models", many);
  to.write("constant", stream({1, 1, 11, 4}, {}, 0, 2, true));
  to.write("tiny_numbers", stream(small, {.group = 3}, 0, 1e-38f));
  to.write("huge_numbers", stream(small, {.level = 3, .group = 3}, 0, 0x1p106f));
  to.write("last_position", stream(small, {.group = 3}, 0x7fffffff - small.tokens));
  const Bytes good = stream(small, {.group = 3}), more = stream(small, {.level = 2, .group = 5}, small.tokens);
  const std::uint8_t words[]{'a', 'b', 0, 255};
  Bytes chunks = good;
  for (const Bytes& part : {kv::cachegen_text(words, 7, 3), more})
    chunks.insert(chunks.end(), part.begin(), part.end());
  to.write("chunks_and_text", chunks);
  to.write("text", kv::cachegen_text(words, 0, 4096));
  to.write("no_text", kv::cachegen_text({}, 0, 1));
  // Fields of the header (tensor.hpp and cachegen.hpp say what they are), each too small, too large or another's.
  struct Field {
    const char* name;
    std::size_t at;
    std::uint32_t value;
  };
  for (const Field& f : {Field{"magic", 0, 0x32474354},
                         Field{"kind2", 4, 2 | 3 << 16},
                         Field{"level4", 4, 4 << 8 | 3 << 16},
                         Field{"group0", 4, 1 << 8},
                         Field{"group4097", 4, 1 << 8 | 4097u << 16},
                         Field{"text_with_layers", 4, 1},
                         Field{"layers0", 8, 0},
                         Field{"layers_max", 8, ~0u},
                         Field{"layers2", 8, 2},
                         Field{"heads0", 12, 0},
                         Field{"heads_max", 12, ~0u},
                         Field{"heads2", 12, 2},
                         Field{"dim0", 16, 0},
                         Field{"dim_wraps", 16, 1u << 31},
                         Field{"begin_end", 20, 0x7fffffff},
                         Field{"tokens0", 24, 0},
                         Field{"tokens4096", 24, 4096},
                         Field{"tokens_max", 24, ~0u},
                         Field{"reserved", 28, 1},
                         Field{"payload_less", 32, 8},
                         Field{"payload_high", 36, ~0u},
                         Field{"part_long", 40, ~0u},
                         Field{"part_high", 44, 1},
                         Field{"step_zero", 48, 0},
                         Field{"step_nan", 48, 0x7fc00000},
                         Field{"step_long", 48, 0x3f800001},
                         Field{"step_largest", 48, std::bit_cast<std::uint32_t>(0x1p114f)},
                         Field{"mean_infinite", 52, 0x7f807f80},
                         Field{"exponents", 58, 0xffffff}})
    to.write(f.name, with(good, f.at, f.value));
  // The code of the anchors of keys: tables, shares, states, words. After step, means and exponents of three channels.
  const std::size_t table = 48 + 4 + 3 * 3;
  to.write("no_table", with(good, table, std::uint8_t{0}));
  to.write("tables255", with(good, table, std::uint8_t{255}));
  to.write("first_symbol", with(good, table + 1, std::uint8_t{255}));
  to.write("symbols0", with(good, table + 2, std::uint8_t{0}));
  to.write("symbols255", with(good, table + 2, std::uint8_t{255}));
  to.write("share0", with(good, table + 3, std::uint16_t{0}));
  to.write("share_most", with(good, table + 3, std::uint16_t{0xffff}));
  const std::size_t states = states_at(good, table, 3);
  to.write("state_low", with(good, states, std::uint32_t{0xffff}));
  to.write("words_many", with(good, states + 16, ~std::uint32_t{0}));
  to.write("numbers_too_many", with(stream({1, 5, 4, 2}, {.group = 2}), 24, std::uint32_t{4096}));
  Bytes word = good;  // one more than is read
  word.insert(word.begin() + static_cast<std::ptrdiff_t>(states) + 20, {0, 0});
  const auto more_by = [&](std::size_t at, int count) {
    word = with(word, at, static_cast<std::uint16_t>((word[at] | word[at + 1] << 8) + count));
  };
  more_by(32, 2);
  more_by(40, 2);
  more_by(states + 16, 1);
  to.write("word_left", word);
  const std::size_t anchors = states_at(many, table, 3);  // then 16 bytes of states, the number of words and these
  const std::size_t deltas = anchors + 20 + 2 * static_cast<std::size_t>(many[anchors + 16] | many[anchors + 17] << 8);
  to.write("channel_without_table", with(many, deltas + 1, std::uint8_t{255}));
  // The end of values' deltas: the last words and, before them, their number and the states.
  to.write("words_other", with(good, good.size() - 2, std::uint16_t{0}));
  Bytes fitted(good.begin(), good.end() - 2);  // the same with lengths that agree
  fitted = with(fitted, 32, static_cast<std::uint64_t>(fitted.size() - 40));
  const std::size_t second = 48 + static_cast<std::size_t>(good[40] | good[41] << 8);
  fitted = with(fitted, second, static_cast<std::uint64_t>(fitted.size() - second - 8));
  to.write("words_end_early", fitted);
  Bytes longer = good;
  longer.insert(longer.end(), {0, 0});
  longer = with(longer, 32, static_cast<std::uint64_t>(longer.size() - 40));
  to.write("goes_on", with(longer, second, static_cast<std::uint64_t>(longer.size() - second - 8)));
}
