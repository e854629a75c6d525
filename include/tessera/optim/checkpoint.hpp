/// Checkpoints that are written while training goes on. Needs nlohmann-json.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <tessera/io/safetensors.hpp>
#include <tessera/optim/checkpoint_writer.hpp>
#include <tessera/optim/parameters.hpp>
#include <tessera/optim/state_file.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {

template <class T>
std::vector<Tensor> parameter_tensors(const Parameters<T>& params) {
  std::vector<Tensor> tensors;
  for (const auto& p : params)
    tensors.push_back(p.rows == 1 ? as_tensor("params." + p.name, p.view())
                                  : as_tensor("params." + p.name, MatrixView<T>(p.data, p.rows, p.cols)));
  return tensors;
}

}  // namespace detail

/// One file that always holds the last whole checkpoint. `save` only notes where tensors lie; a thread copies them
/// aside while the next forward and backward passes read them, streams the copy to a file beside, and renames that over
/// `path` (fsync first). A kill at any moment leaves the file before or the new one, and perhaps a *.tmp.
///   checkpoint.before_update();  // then opt.update(…), then
///   checkpoint.save(params, state);
/// A. Maurya et al., "DataStates-LLM: Lazy Asynchronous Checkpointing for Large Language Models" (HPDC 2024), §4.
/// Two copies are kept: one may be written while the next is made; a third save waits for the first. What a thread
/// could not do is thrown by the next call. One thread at a time may call it. Memory: two copies of what is saved.
class AsyncCheckpoint {
 public:
  explicit AsyncCheckpoint(std::string path) : writer_(std::move(path)) {}

  /// Begins a checkpoint of params and state, whose memory must stay as it is until `before_update` returns. Throws
  /// what went wrong since the last call, and then begins nothing.
  template <class T, class State>
  void save(const Parameters<T>& params, State& state, Metadata metadata = {}) {
    auto tensors = detail::parameter_tensors(params);
    for (Tensor& tensor : state_tensors(state, "state.")) tensors.push_back(std::move(tensor));
    writer_.begin(std::move(tensors), std::move(metadata));
  }
  /// Returns when parameters and state may change.
  void before_update() { writer_.wait_copied(); }
  /// Returns when all that was begun is in its place on disk.
  void wait() { writer_.wait_written(); }

 private:
  AsyncWriter writer_;
};

/// Parameters and state as a checkpoint has them; nothing changes unless all of it is there in the same shapes. Throws
/// format_error for what is missing or left over, shape_error and io_error.
template <class T, class State>
void load_checkpoint(const std::string& path, const Parameters<T>& params, State& state) {
  const Safetensors file = read_safetensors(path);
  const auto tensors = detail::parameter_tensors(params);
  for (const auto& t : tensors)
    if (const Tensor& saved = file[t.name]; saved.dtype != t.dtype || saved.shape != t.shape)
      throw shape_error(tessera::detail::concat("tessera: ", path, ": '", t.name, "' is ", dtype_name(saved.dtype),
                                                " of shape ", tessera::detail::shape_text(saved.shape), ", expected ",
                                                dtype_name(t.dtype), " of shape ",
                                                tessera::detail::shape_text(t.shape)));
  const auto more = std::count_if(file.tensors().begin(), file.tensors().end(),
                                  [](const Tensor& t) { return t.name.starts_with("params."); });
  if (more != static_cast<std::ptrdiff_t>(tensors.size()))
    throw format_error(
        tessera::detail::concat("tessera: ", path, " has ", more, " parameters, expected ", tensors.size()));
  read_state(state, file, "state.");
  for (std::size_t b = 0; b < params.size(); ++b) {
    const auto bytes = file[tensors[b].name].data;
    std::copy(bytes.begin(), bytes.end(), std::as_writable_bytes(params[b].values()).begin());
  }
}

}  // namespace tessera::inline TESSERA_ABI::optim
