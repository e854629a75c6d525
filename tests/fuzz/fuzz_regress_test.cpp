// Every corpus file, its truncations and changed bytes through the fuzz targets, the same in every run. A target that
// finds something ends the program.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <tessera/core/rng.hpp>
#include <vector>

#include "cachegen.hpp"
#include "cachegen_load.hpp"
#include "gguf.hpp"
#include "llama2c.hpp"
#include "matrix_market.hpp"
#include "npy.hpp"
#include "safetensors.hpp"
#include "tokenizer.hpp"

namespace tessera::fuzz {
namespace TESSERA_TEST_FILE {

using Bytes = std::vector<std::uint8_t>;
using Target = void (*)(std::span<const std::uint8_t>);

struct Reader {
  const char* name;
  Target target;
  const char* corpus = name;
};
void PrintTo(const Reader& reader, std::ostream* out) { *out << reader.name; }

std::vector<Bytes> corpus(const char* reader) {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(std::filesystem::path(TESSERA_FUZZ_CORPUS) / reader))
    paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  std::vector<Bytes> files;
  for (const auto& path : paths) {
    std::ifstream file(path, std::ios::binary);
    files.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return files;
}

/// A copy of exactly the input's size on the heap, so that a sanitizer sees every byte too far.
void run(Target target, std::span<const std::uint8_t> input) {
  const Bytes exact(input.begin(), input.end());
  target(exact);
}

class FuzzRegression : public testing::TestWithParam<Reader> {};

TEST_P(FuzzRegression, Corpus) {
  const auto files = corpus(GetParam().corpus);
  ASSERT_FALSE(files.empty());
  for (const auto& file : files) run(GetParam().target, file);
}

TEST_P(FuzzRegression, Truncations) {
  for (const auto& file : corpus(GetParam().corpus)) {
    const std::size_t step = std::max<std::size_t>(1, file.size() / 600);
    for (std::size_t size = 0; size < file.size(); size += step) run(GetParam().target, std::span(file).first(size));
  }
}

TEST_P(FuzzRegression, ChangedBytes) {
  constexpr std::uint8_t telling[] = {0x00, 0xff, 0x7f, 0x80, 0x01, '-', '9', ' ', '\n', '"', '[', '{'};
  std::uint64_t stream = 0;
  for (const auto& file : corpus(GetParam().corpus)) {
    if (file.empty()) continue;
    const Philox draws(20, stream++);
    for (std::uint64_t trial = 0; trial < 300; ++trial) {
      Bytes changed = file;
      for (std::uint64_t change = 0; change <= trial % 3; ++change) {
        const auto words = draws.block(trial * 3 + change);
        // Two of three changes near the beginning: headers decide.
        const std::size_t reach = words[3] % 3 == 0 ? file.size() : std::min<std::size_t>(file.size(), 200);
        std::uint8_t& byte = changed[words[0] % reach];
        byte = words[1] % 2 == 0 ? static_cast<std::uint8_t>(byte ^ (1u << words[2] % 8))
                                 : telling[words[2] % std::size(telling)];
      }
      run(GetParam().target, changed);
    }
  }
}

/// Whatever cachegen_decode refuses a stream for, some file of the corpus or its beginning is.
TEST(FuzzCorpus, HoldsAStreamForEveryRefusalOfCacheGen) {
  std::string refusals;
  Context ctx;
  for (const auto& file : corpus("cachegen"))
    for (const std::size_t size : {std::size_t{39}, std::size_t{48}, file.size()}) {
      if (size > file.size()) continue;
      try {
        for (auto stream = std::span(file).first(size); !stream.empty();)
          kv::cachegen_decode(ctx, stream, "(fuzz)", 1 << 16);
      } catch (const error& refusal) {
        if (refusals.find(refusal.what()) == std::string::npos) refusals += std::string(refusal.what()) + '\n';
      }
    }
  for (const char* what :
       {"a chunk's header of", "that does not begin with TCG1", " are left", "a chunk of kind", "text with layers",
        " channels in ", " numbers; at most", "parts do not have its length", "no table of symbols",
        "a channel without a table", "a symbol beyond 127", "do not sum to 4096", "a state below", "ends too early",
        "a code that ends too early", "a code that does not end where", "a step that no encoder chose",
        "a mean that no encoder chose", "goes on after its end"})
    EXPECT_NE(refusals.find(what), std::string::npos) << what;
}

INSTANTIATE_TEST_SUITE_P(Readers, FuzzRegression,
                         testing::Values(Reader{"safetensors", safetensors}, Reader{"gguf", gguf}, Reader{"npy", npy},
                                         Reader{"llama2c", llama2c}, Reader{"tokenizer", tokenizer},
                                         Reader{"matrix_market", matrix_market}, Reader{"cachegen", cachegen},
                                         Reader{"cachegen_load", cachegen_load, "cachegen"}),
                         [](const auto& each) { return std::string(each.param.name); });

}  // namespace
}  // namespace tessera::fuzz
