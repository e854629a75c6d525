/// States of optimizers as tensors of a safetensors file. Needs nlohmann-json.
#pragma once

#include <algorithm>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <tessera/core/view.hpp>
#include <tessera/io/safetensors.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// Every buffer of the state, counts among it, as a tensor `prefix` + its name, which lies where the state's lies:
///   auto all = state_tensors(state, "optimizer.");
///   write_safetensors("run.safetensors", all);
template <class State>
std::vector<Tensor> state_tensors(State& state, const std::string& prefix = "") {
  std::vector<Tensor> all;
  state.list_buffers(prefix, [&](const std::string& name, auto values) {
    using T = typename decltype(values)::element_type;
    all.push_back(as_tensor(name, VectorView<const T>(values.data(), static_cast<Index>(values.size()))));
  });
  return all;
}

/// The reverse. Throws format_error, before anything changes, for a tensor that is missing, of another type or size, or
/// in the file under this prefix and not in the state; each by its name.
template <class State>
void read_state(State& state, const Safetensors& file, const std::string& prefix = "") {
  // Counts first: what is kept may depend on them. Where the file is refused they are put back.
  std::vector<std::byte> were;
  const auto counts = [&](auto&& f) {
    state.list_buffers(prefix, [&](const std::string& name, auto values) {
      using T = std::remove_const_t<typename decltype(values)::element_type>;
      if constexpr (std::is_same_v<T, Index>)
        if (values.size() == 1) f(name, std::as_writable_bytes(values));
    });
  };
  counts([&](const std::string& name, std::span<std::byte> count) {
    were.insert(were.end(), count.begin(), count.end());
    const Tensor* held = file.find(name);
    if (held != nullptr && held->dtype == dtype_of<Index> && held->size() == 1)
      std::copy(held->data.begin(), held->data.end(), count.begin());
  });
  const auto fail = [&](const std::string& name, const auto&... pieces) {
    auto from = were.begin();
    counts([&](const std::string&, std::span<std::byte> count) {
      std::copy_n(from, count.size(), count.begin());
      from += static_cast<std::ptrdiff_t>(count.size());
    });
    throw format_error(tessera::detail::concat("tessera: optimizer state ", tessera::detail::quote(name), pieces...));
  };
  std::set<std::string, std::less<>> expected;
  state.list_buffers(prefix, [&](const std::string& name, auto values) {
    using T = std::remove_const_t<typename decltype(values)::element_type>;
    expected.insert(name);
    const Tensor* held = file.find(name);
    if (held == nullptr)
      fail(name, " is not in the file; expected ", dtype_name(dtype_of<T>), " of ", values.size(), " elements");
    if (held->dtype != dtype_of<T> || held->size() != static_cast<Index>(values.size()))
      fail(name, " is ", dtype_name(held->dtype), " of ", held->size(), " elements in the file; expected ",
           dtype_name(dtype_of<T>), " of ", values.size());
  });
  for (const Tensor& tensor : file.tensors())
    if (std::string_view(tensor.name).starts_with(prefix) && !expected.contains(tensor.name))
      fail(tensor.name,
           " is in the file, but this optimizer keeps no such thing for these parameters; expected the "
           "file of the same optimizer");
  state.list_buffers(prefix, [&](const std::string& name, auto values) {
    const auto bytes = file.find(name)->data;
    std::copy(bytes.begin(), bytes.end(), std::as_writable_bytes(values).begin());
  });
}

}  // namespace tessera::inline TESSERA_ABI::optim
