/// Safetensors files: named tensors behind a JSON header. Format: https://github.com/huggingface/safetensors.
/// Needs nlohmann-json.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <numeric>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <tessera/core/config.hpp>
#include <tessera/core/error.hpp>
#include <tessera/io/atomic_file.hpp>
#include <tessera/io/detail/parse.hpp>
#include <tessera/io/detail/safetensors_header.hpp>
#include <tessera/io/mapped_file.hpp>
#include <tessera/io/tensor.hpp>

namespace tessera::inline TESSERA_ABI {

using Metadata = std::map<std::string, std::string, std::less<>>;

class Safetensors;
template <class = void>
Safetensors read_safetensors(const ByteSource& source);

/// The tensors of one file, left where they lie; keeps a mapped file alive.
class Safetensors {
 public:
  /// In the order of their bytes.
  std::span<const Tensor> tensors() const { return tensors_; }
  const Metadata& metadata() const { return metadata_; }
  /// The name of where it was read from.
  const std::string& source() const { return source_; }

  /// nullptr when there is none of that name. O(log n).
  const Tensor* find(std::string_view name) const {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? nullptr : &tensors_[found->second];
  }
  /// Throws format_error when there is none of that name.
  const Tensor& operator[](std::string_view name) const {
    if (const Tensor* tensor = find(name)) return *tensor;
    throw format_error(detail::concat("tessera: ", source_, ": no tensor ", detail::quote(name), " among its ",
                                      tensors_.size(), tensors_.empty() ? "" : "; the first is ",
                                      tensors_.empty() ? "" : detail::quote(tensors_[0].name)));
  }

 private:
  template <class>
  friend Safetensors read_safetensors(const ByteSource&);
  std::string source_;
  std::vector<Tensor> tensors_;
  std::map<std::string, std::size_t, std::less<>> by_name_;
  Metadata metadata_;
};

/// Checks the whole header: names unique, every tensor's bytes inside the file, as many as its shape and type need, one
/// after another without gap or overlap to the end of the file. Reads no tensor. O(header). Throws format_error.
template <class>
Safetensors read_safetensors(const ByteSource& source) {
  detail::ByteCursor cursor(source.bytes(), source.name());
  const auto length = cursor.read<std::uint64_t>("the header's length");
  if (length > cursor.left())
    detail::throw_format_error(source.name(), 0, "a header of ", length, " bytes; the file has ", cursor.left(),
                               " after its length");
  const auto header = cursor.take(static_cast<std::size_t>(length), "a header");
  detail::SafetensorsHeader parsed(source.name(), {reinterpret_cast<const char*>(header.data()), header.size()});

  const auto data = source.bytes().subspan(cursor.offset());
  auto& entries = parsed.entries;
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return std::tie(a.begin, a.end, a.offset) < std::tie(b.begin, b.end, b.offset);
  });
  Safetensors file;
  file.source_ = source.name();
  file.metadata_ = std::move(parsed.metadata);
  std::uint64_t position = 0;
  for (auto& entry : entries) {
    const auto fail = [&](const auto&... pieces) {
      detail::throw_format_error(source.name(), entry.offset, "tensor ", detail::quote(entry.name), ": ", pieces...);
    };
    if (entry.begin != position)
      fail("data_offsets [", entry.begin, ", ", entry.end, "]; expected to begin at ", position,
           ", where the tensor before ends");
    if (entry.end < entry.begin || entry.end > data.size())
      fail("data_offsets [", entry.begin, ", ", entry.end, "] are not a part of the file's ", data.size(),
           " bytes of data");
    Index bits = detail::checked_size(entry.shape);
    if (bits < 0 || !detail::multiply_into(bits, dtype_bits(entry.dtype)) || bits % 8 != 0 ||
        static_cast<std::uint64_t>(bits / 8) != entry.end - entry.begin)
      fail(dtype_name(entry.dtype), " of shape ", detail::shape_text(entry.shape), " does not take the ",
           entry.end - entry.begin, " bytes of data_offsets [", entry.begin, ", ", entry.end, "]");
    position = entry.end;
    Tensor tensor{.name = std::move(entry.name), .dtype = entry.dtype, .shape = std::move(entry.shape)};
    tensor.data =
        data.subspan(static_cast<std::size_t>(entry.begin), static_cast<std::size_t>(entry.end - entry.begin));
    tensor.owner = source.owner();
    file.by_name_.emplace(tensor.name, file.tensors_.size());
    file.tensors_.push_back(std::move(tensor));
  }
  if (position != data.size())
    detail::throw_format_error(source.name(), cursor.offset() + static_cast<std::size_t>(position),
                               "the last tensor ends ", data.size() - position, " bytes before the file does");
  return file;
}
template <class = void>
Safetensors read_safetensors(const std::string& path) {
  return read_safetensors(ByteSource::file(path));
}

/// Writes `tensors` (row-major, little-endian) and metadata. The bytes are ordered by falling element size, so that
/// every tensor is aligned for its type. Throws format_error for names that are taken, reserved or not UTF-8,
/// shape_error for data that does not fit its shape, unsupported_error for other orders. O(bytes).
template <ByteSink Sink>
void write_safetensors(Sink& out, std::span<const Tensor> tensors, const Metadata& metadata = {}) {
  std::vector<std::size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::pair(-dtype_bits(tensors[a].dtype), a) < std::pair(-dtype_bits(tensors[b].dtype), b);
  });
  const auto text = [](std::string_view value) {
    try {
      return nlohmann::json(value).dump();
    } catch (const nlohmann::json::type_error&) {
      throw format_error(detail::concat("tessera: safetensors text ", detail::quote(value), " is not UTF-8"));
    }
  };

  std::string header = "{";
  if (!metadata.empty()) {
    header += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata) header += text(key) + ":" + text(value) + ",";
    header.back() = '}';
    header += ',';
  }
  std::set<std::string_view> names{"__metadata__"};
  std::size_t position = 0;
  for (const std::size_t i : order) {
    const Tensor& t = tensors[i];
    if (!names.insert(t.name).second)
      throw format_error(detail::concat("tessera: safetensors name ", detail::quote(t.name),
                                        t.name == "__metadata__" ? " is reserved" : " appears twice"));
    if (t.column_major || t.swapped || t.dtype == DType::complex128)
      throw unsupported_error(detail::concat("tessera: tensor ", detail::quote(t.name), " as safetensors: expected ",
                                             "row-major little-endian elements of a type other than C128"));
    Index bits = t.size();
    if (bits < 0 || !detail::multiply_into(bits, dtype_bits(t.dtype)) || bits % 8 != 0 ||
        static_cast<std::size_t>(bits / 8) != t.data.size())
      throw shape_error(detail::concat("tessera: tensor ", detail::quote(t.name), ": ", t.data.size(), " bytes for ",
                                       dtype_name(t.dtype), " of shape ", detail::shape_text(t.shape)));
    header += text(t.name) + ":{\"dtype\":\"";
    header += dtype_name(t.dtype);
    header += "\",\"shape\":[";
    for (std::size_t d = 0; d < t.shape.size(); ++d) header += (d > 0 ? "," : "") + std::to_string(t.shape[d]);
    header += detail::concat("],\"data_offsets\":[", position, ",", position + t.data.size(), "]},");
    position += t.data.size();
  }
  if (header.back() == ',') header.pop_back();
  header += '}';
  header.append((8 - header.size() % 8) % 8, ' ');

  const auto length = static_cast<std::uint64_t>(header.size());
  out.write(std::as_bytes(std::span(&length, 1)));
  out.write(std::as_bytes(std::span(header)));
  for (const std::size_t i : order) out.write(tensors[i].data);
}
template <class = void>
void write_safetensors(const std::string& path, std::span<const Tensor> tensors, const Metadata& metadata = {}) {
  AtomicFile file(path);
  write_safetensors(file, tensors, metadata);
  file.commit();
}

}  // namespace tessera::inline TESSERA_ABI
