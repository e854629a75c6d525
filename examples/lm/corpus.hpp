/// Text to train and evaluate on: the files below a folder, split into train and held-out by a hash of their paths.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <tessera/core/error.hpp>
#include <tessera/core/rng.hpp>
#include <vector>

namespace lm {

/// FNV-1a, 64 bits: the same on every machine, unlike std::hash.
inline std::uint64_t stable_hash(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

struct Document {
  std::string path;  // relative to the folder, '/' between parts
  std::string text;
};

struct Corpus {
  std::vector<Document> train, held_out;
};

inline std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw tessera::format_error("cannot read " + path.string());
  return {std::istreambuf_iterator<char>(file), {}};
}

inline std::size_t bytes(const std::vector<Document>& documents) {
  std::size_t total = 0;
  for (const auto& document : documents) total += document.text.size();
  return total;
}

/// All regular files below `folder`, by path; one in ten is held out. A single file is split at nine tenths.
inline Corpus read_corpus(const std::filesystem::path& folder) {
  namespace fs = std::filesystem;
  Corpus corpus;
  if (fs::is_regular_file(folder)) {
    const std::string text = read_text(folder);
    const std::size_t cut = text.size() * 9 / 10;
    corpus.train.push_back({folder.filename().string(), text.substr(0, cut)});
    corpus.held_out.push_back({folder.filename().string(), text.substr(cut)});
    return corpus;
  }
  if (!fs::is_directory(folder))
    throw tessera::format_error("no text at " + folder.string() + "; expected a file or a folder");
  std::vector<fs::path> paths;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  for (const auto& path : paths) {
    Document document{path.lexically_relative(folder).generic_string(), read_text(path)};
    if (document.text.empty()) continue;
    auto& part = stable_hash(document.path) % 10 == 0 ? corpus.held_out : corpus.train;
    part.push_back(std::move(document));
  }
  if (corpus.train.empty()) throw tessera::format_error("no text below " + folder.string());
  return corpus;
}

/// One byte a token; a zero byte starts every document.
inline constexpr std::int32_t document_start = 0;

inline std::vector<std::int32_t> byte_tokens(const std::vector<Document>& documents) {
  std::vector<std::int32_t> tokens;
  tokens.reserve(bytes(documents) + documents.size());
  for (const auto& document : documents) {
    tokens.push_back(document_start);
    for (const char c : document.text) tokens.push_back(static_cast<unsigned char>(c));
  }
  return tokens;
}

/// `length` tokens after each of the places drawn by (seed, step, sequence), and their successors.
inline void draw_batch(const std::vector<std::int32_t>& text, std::uint64_t seed, tessera::Index step,
                       tessera::Index length, std::vector<std::int32_t>& inputs, std::vector<std::int32_t>& targets) {
  const tessera::Philox draws(seed, 0xba7c);
  const auto places = static_cast<std::uint64_t>(text.size()) - static_cast<std::uint64_t>(length);
  const tessera::Index batch = static_cast<tessera::Index>(inputs.size()) / length;
  for (tessera::Index b = 0; b < batch; ++b) {
    const auto start =
        text.begin() + static_cast<tessera::Index>(draws.below(static_cast<std::uint64_t>(step * batch + b), places));
    std::copy_n(start, length, inputs.begin() + b * length);
    std::copy_n(start + 1, length, targets.begin() + b * length);
  }
}

}  // namespace lm
