/// GGUF version 3: typed metadata, then tensors of numbers or of quantized blocks.
/// Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <tessera/core/config.hpp>
#include <tessera/core/error.hpp>
#include <tessera/io/atomic_file.hpp>
#include <tessera/io/detail/gguf_parser.hpp>
#include <tessera/io/detail/parse.hpp>
#include <tessera/io/gguf_metadata.hpp>
#include <tessera/io/gguf_tensor.hpp>
#include <tessera/io/gguf_types.hpp>
#include <tessera/io/mapped_file.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

/// general.alignment, 32 when there is none; 0 when it is no power of two in a uint32.
inline std::size_t gguf_alignment(const GgufMetadata& metadata) {
  const GgufValue* value = metadata.find("general.alignment");
  if (value == nullptr) return 32;
  const auto* alignment = std::get_if<std::uint32_t>(value);
  return alignment != nullptr && std::has_single_bit(*alignment) ? *alignment : 0;
}

}  // namespace detail

class Gguf;
template <class = void>
Gguf read_gguf(const ByteSource& source);

/// The metadata and the tensors of one file, left where they lie; keeps a mapped file alive.
class Gguf {
 public:
  const GgufMetadata& metadata() const { return metadata_; }
  /// In the file's order.
  std::span<const GgufTensor> tensors() const { return tensors_; }

  /// nullptr when there is none of that name. O(log n).
  const GgufTensor* find(std::string_view name) const {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? nullptr : &tensors_[found->second];
  }
  /// Throws format_error when there is none of that name.
  const GgufTensor& operator[](std::string_view name) const {
    if (const GgufTensor* tensor = find(name)) return *tensor;
    throw format_error(detail::concat("tessera: ", metadata_.source_, ": no tensor ", detail::quote(name),
                                      " among its ", tensors_.size()));
  }

 private:
  template <class>
  friend Gguf read_gguf(const ByteSource&);
  void name_source(const std::string& name) { metadata_.source_ = name; }
  GgufMetadata metadata_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, std::size_t, std::less<>> by_name_;
};

/// Checks the whole header: keys and names unique, every tensor's bytes inside the file, as many as its shape and type
/// need, one after another at the file's alignment without gap or overlap to its end (the last one's padding may be
/// missing). Reads no tensor. O(header). Throws format_error; unsupported_error for other versions and byte orders.
template <class>
Gguf read_gguf(const ByteSource& source) {
  const std::string& name = source.name();
  detail::GgufParser parser(source.bytes(), name);
  detail::ByteCursor& cursor = parser.cursor();
  const auto fail = [&](std::size_t at, const auto&... pieces) { detail::throw_format_error(name, at, pieces...); };

  const auto magic = cursor.take(4, "\"GGUF\"");
  if (std::memcmp(magic.data(), "GGUF", 4) != 0) fail(0, "the file does not begin with \"GGUF\"");
  const auto version = cursor.read<std::uint32_t>("the version");
  if (version != 3)
    throw unsupported_error(detail::concat("tessera: ", name, " at byte 4: GGUF version ", version,
                                           version == 3u << 24 ? " (big-endian)" : "", "; expected 3"));
  const auto tensors = cursor.read<std::uint64_t>("the number of tensors");
  const auto pairs = cursor.read<std::uint64_t>("the number of metadata values");
  constexpr std::size_t least_pair = 13, least_tensor = 24;
  if (pairs > cursor.left() / least_pair)
    fail(16, pairs, " metadata values, but the file ends after ", cursor.left(), " bytes");
  if (tensors > cursor.left() / least_tensor)
    fail(8, tensors, " tensors, but the file ends after ", cursor.left(), " bytes");

  Gguf file;
  file.name_source(name);
  for (std::uint64_t i = 0; i < pairs; ++i) {
    const std::size_t at = cursor.offset();
    std::string key = parser.string("a metadata key");
    if (key.empty() || key.size() > detail::gguf_longest_key)
      fail(at, "a metadata key of ", key.size(), " bytes; expected 1 to ", detail::gguf_longest_key);
    if (file.metadata_.find(key) != nullptr) fail(at, "the metadata key ", detail::quote(key), " appears twice");
    file.metadata_.set(std::move(key), parser.value());
  }
  const std::size_t alignment = detail::gguf_alignment(file.metadata_);
  if (alignment == 0) fail(cursor.offset(), "general.alignment is not a uint32 that is a power of two");

  struct Place {
    std::size_t at;
    std::uint64_t offset;
    Index bytes;
  };
  std::vector<Place> places;
  places.reserve(static_cast<std::size_t>(tensors));
  for (std::uint64_t i = 0; i < tensors; ++i) {
    GgufTensor tensor;
    Place place{cursor.offset(), 0, 0};
    tensor.name = parser.string("a tensor's name");
    const auto extents = cursor.read<std::uint32_t>("a tensor's number of extents");
    if (extents > detail::gguf_most_extents)
      fail(place.at, "tensor ", detail::quote(tensor.name), " of ", extents, " extents; expected at most ",
           detail::gguf_most_extents);
    for (std::uint32_t d = 0; d < extents; ++d) {
      const auto extent = cursor.read<std::uint64_t>("a tensor's extent");
      if (extent > static_cast<std::uint64_t>(std::numeric_limits<Index>::max()))
        fail(place.at, "tensor ", detail::quote(tensor.name), ": extent ", extent, " is too large");
      tensor.shape.insert(tensor.shape.begin(), static_cast<Index>(extent));
    }
    const auto type = cursor.read<std::uint32_t>("a tensor's type");
    const auto* row = detail::find_gguf_type(type);
    if (row == nullptr) fail(place.at, "tensor ", detail::quote(tensor.name), " of unknown type ", type);
    tensor.type = row->type;
    place.offset = cursor.read<std::uint64_t>("a tensor's offset");
    place.bytes = detail::gguf_bytes(*row, tensor.shape);
    if (place.bytes < 0)
      fail(place.at, "tensor ", detail::quote(tensor.name), ": ", row->name, " of shape ",
           detail::shape_text(tensor.shape), "; expected rows of whole blocks of ", row->block_size,
           " and a size that can be counted");
    if (!file.by_name_.emplace(tensor.name, file.tensors_.size()).second)
      fail(place.at, "the tensor name ", detail::quote(tensor.name), " appears twice");
    places.push_back(place);
    file.tensors_.push_back(std::move(tensor));
  }

  const std::size_t all = source.bytes().size(), past = cursor.offset() % alignment;
  std::size_t position = cursor.offset() + (past == 0 ? 0 : alignment - past);
  if (position > all && tensors > 0) fail(cursor.offset(), "the file ends before its tensors begin at ", position);
  const std::size_t start = position;
  for (std::size_t i = 0; i < places.size(); ++i) {
    GgufTensor& tensor = file.tensors_[i];
    const Place& place = places[i];
    if (place.offset != position - start)
      fail(place.at, "tensor ", detail::quote(tensor.name), " at offset ", place.offset, "; expected ",
           position - start, ", the next multiple of ", alignment, " after the tensor before");
    const auto bytes = static_cast<std::size_t>(place.bytes);
    if (position > all || bytes > all - position)
      fail(place.at, "tensor ", detail::quote(tensor.name), " of ", bytes, " bytes at byte ", position,
           ", but the file ends at ", all);
    tensor.data = source.bytes().subspan(position, bytes);
    tensor.owner = source.owner();
    position += bytes;
    if (const std::size_t over = position % alignment; over != 0) {
      if (i + 1 == places.size() && position == all) break;
      position += alignment - over;
    }
  }
  if (position < all) fail(position, "the last tensor ends ", all - position, " bytes before the file does");
  return file;
}
template <class = void>
Gguf read_gguf(const std::string& path) {
  return read_gguf(ByteSource::file(path));
}

/// Writes metadata and tensors in their order, at `general.alignment` or 32. Throws format_error for names or keys that
/// are taken or too long, or an alignment that is no power of two, shape_error for data that does not fit its shape.
/// O(bytes).
template <ByteSink Sink>
void write_gguf(Sink& out, std::span<const GgufTensor> tensors, const GgufMetadata& metadata = {}) {
  const std::size_t alignment = detail::gguf_alignment(metadata);
  if (alignment == 0)
    throw format_error("tessera: GGUF metadata: general.alignment is not a uint32 that is a power of two");
  for (const auto& [key, value] : metadata.entries())
    if (key.empty() || key.size() > detail::gguf_longest_key)
      throw format_error(detail::concat("tessera: GGUF metadata key ", detail::quote(key), " of ", key.size(),
                                        " bytes; expected 1 to ", detail::gguf_longest_key));
  std::set<std::string_view> names;
  for (const GgufTensor& t : tensors) {
    if (!names.insert(t.name).second)
      throw format_error(detail::concat("tessera: GGUF tensor name ", detail::quote(t.name), " appears twice"));
    const auto* row = detail::find_gguf_type(static_cast<std::uint32_t>(t.type));
    if (row == nullptr || static_cast<Index>(t.shape.size()) > detail::gguf_most_extents ||
        detail::gguf_bytes(*row, t.shape) != static_cast<Index>(t.data.size()))
      throw shape_error(detail::concat("tessera: GGUF tensor ", detail::quote(t.name), ": ", t.data.size(),
                                       " bytes for ", gguf_type_name(t.type), " of shape ", detail::shape_text(t.shape),
                                       "; expected rows of whole blocks, at most ", detail::gguf_most_extents,
                                       " extents"));
  }

  detail::GgufPrinter<Sink> print(out);
  print.bytes(std::as_bytes(std::span("GGUF", 4)));
  print.scalar(std::uint32_t{3});
  print.scalar(static_cast<std::uint64_t>(tensors.size()));
  print.scalar(static_cast<std::uint64_t>(metadata.size()));
  for (const auto& [key, value] : metadata.entries()) {
    print.scalar(key);
    print.value(value);
  }
  std::uint64_t position = 0;
  for (const GgufTensor& t : tensors) {
    print.scalar(t.name);
    print.scalar(static_cast<std::uint32_t>(t.shape.size()));
    for (std::size_t d = t.shape.size(); d-- > 0;) print.scalar(static_cast<std::uint64_t>(t.shape[d]));
    print.scalar(static_cast<std::uint32_t>(t.type));
    print.scalar(position);
    position += (t.data.size() + alignment - 1) / alignment * alignment;
  }
  if (!tensors.empty()) print.pad(alignment);
  for (const GgufTensor& t : tensors) {
    print.bytes(t.data);
    print.pad(alignment);
  }
}
template <class = void>
void write_gguf(const std::string& path, std::span<const GgufTensor> tensors, const GgufMetadata& metadata = {}) {
  AtomicFile file(path);
  write_gguf(file, tensors, metadata);
  file.commit();
}

}  // namespace tessera::inline TESSERA_ABI
