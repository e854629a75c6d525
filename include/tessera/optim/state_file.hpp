/// Parameters and states of optimizers as tensors of a safetensors file: load_checkpoint(path, params, state) and
/// save_checkpoint, of which AsyncCheckpoint (checkpoint.hpp) is the one beside training. Needs nlohmann-json.
#pragma once

#include <algorithm>
#include <cstddef>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <tessera/core/view.hpp>
#include <tessera/io/safetensors.hpp>
#include <tessera/optim/parameters.hpp>

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

/// No state has counted further: what goes on counting from there does not overflow.
inline constexpr Index most_counted = Index{1} << 62;

/// The reverse. Throws format_error, before anything changes, for a tensor that is missing, of another type or size, or
/// in the file under this prefix and not in the state, and for counts that are negative or beyond `most_counted`; each
/// by its name.
template <class State>
void read_state(State& state, const Safetensors& file, const std::string& prefix = "") {
  // Counts first: what is kept may depend on them. Where the file is refused they are put back.
  std::vector<std::byte> were;
  const auto counted = [](Index count) { return count >= 0 && count <= most_counted; };
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
    if (held != nullptr && held->dtype == dtype_of<Index> && held->size() == 1 && counted(held->read<Index>()[0]))
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
    if constexpr (std::is_same_v<T, Index>)
      for (const Index count : held->template read<Index>())
        if (!counted(count)) fail(name, " is ", count, " in the file; expected 0 to ", most_counted);
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

/// Every block as a tensor `prefix` + its name, (cols) where it has one row, else (rows, cols), where it lies.
template <class T>
std::vector<Tensor> parameter_tensors(const Parameters<T>& params, const std::string& prefix = "") {
  std::vector<Tensor> tensors;
  for (const auto& p : params)
    tensors.push_back(p.rows == 1 ? as_tensor(prefix + p.name, p.view())
                                  : as_tensor(prefix + p.name, MatrixView<T>(p.data, p.rows, p.cols)));
  return tensors;
}

/// All that a run goes on from: parameters as "params.…", the state as "state.…".
template <class T, class State>
std::vector<Tensor> checkpoint_tensors(const Parameters<T>& params, State& state) {
  auto tensors = parameter_tensors(params, "params.");
  for (Tensor& tensor : state_tensors(state, "state.")) tensors.push_back(std::move(tensor));
  return tensors;
}
/// A file at `path`, replaced as a whole.
template <class T, class State>
void save_checkpoint(const std::string& path, const Parameters<T>& params, State& state,
                     const Metadata& metadata = {}) {
  write_safetensors(path, checkpoint_tensors(params, state), metadata);
}

/// Parameters and state as `checkpoint_tensors` gave them; nothing changes unless all of it is there in the same
/// shapes. Throws format_error for what is missing or left over, shape_error for other shapes and types.
template <class T, class State>
void read_checkpoint(const Safetensors& file, const Parameters<T>& params, State& state) {
  using tessera::detail::shape_text;
  const auto tensors = parameter_tensors(params, "params.");
  for (const auto& t : tensors)
    if (const Tensor& saved = file[t.name]; saved.dtype != t.dtype || saved.shape != t.shape)
      throw shape_error(tessera::detail::concat("tessera: ", file.source(), ": '", t.name, "' is ",
                                                dtype_name(saved.dtype), " of shape ", shape_text(saved.shape),
                                                ", expected ", dtype_name(t.dtype), " of shape ", shape_text(t.shape)));
  const auto more = std::count_if(file.tensors().begin(), file.tensors().end(),
                                  [](const Tensor& t) { return t.name.starts_with("params."); });
  if (more != static_cast<std::ptrdiff_t>(tensors.size()))
    throw format_error(
        tessera::detail::concat("tessera: ", file.source(), " has ", more, " parameters, expected ", tensors.size()));
  read_state(state, file, "state.");
  for (std::size_t b = 0; b < params.size(); ++b) {
    const auto bytes = file[tensors[b].name].data;
    std::copy(bytes.begin(), bytes.end(), std::as_writable_bytes(params[b].values()).begin());
  }
}
/// As `read_checkpoint`; throws io_error besides.
template <class T, class State>
void load_checkpoint(const std::string& path, const Parameters<T>& params, State& state) {
  read_checkpoint(read_safetensors(path), params, state);
}

}  // namespace tessera::inline TESSERA_ABI::optim
