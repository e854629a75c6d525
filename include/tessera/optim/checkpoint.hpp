/// Checkpoints that are written while training goes on. Needs nlohmann-json.
#pragma once

#include <string>
#include <utility>

#include <tessera/optim/checkpoint_writer.hpp>
#include <tessera/optim/parameters.hpp>
#include <tessera/optim/state_file.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// One file that always holds the last whole checkpoint. `save` only notes where tensors lie; a thread copies them
/// aside while the next forward and backward passes read them, streams the copy to a file beside, and renames that over
/// `path` (fsync first). A kill at any moment leaves the file before or the new one, and perhaps a *.tmp.
///   checkpoint.before_update();  // then opt.update(…), then
///   checkpoint.save(params, state);
/// and load_checkpoint(path, params, state) reads it (state_file.hpp).
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
    writer_.begin(checkpoint_tensors(params, state), std::move(metadata));
  }
  /// Returns when parameters and state may change.
  void before_update() { writer_.wait_copied(); }
  /// Returns when all that was begun is in its place on disk.
  void wait() { writer_.wait_written(); }

 private:
  AsyncWriter writer_;
};

}  // namespace tessera::inline TESSERA_ABI::optim
