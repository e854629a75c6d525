/// What writes tensors to a file while their owner goes on.
#pragma once

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstddef>
#include <cstring>
#include <exception>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <tessera/core/buffer.hpp>
#include <tessera/io/safetensors.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// One file that always holds the last whole list of tensors given to `begin`: a thread copies them aside, streams the
/// copy to a file beside, and renames that over `path`, fsync first, in the order they were begun. Two copies are kept:
/// one may be written while the next is made. What a thread could not do is thrown by the next call. For one thread.
class AsyncWriter {
 public:
  explicit AsyncWriter(std::string path) : path_(std::move(path)) {
    try {
      for (auto& slot : slots_) slot.thread = std::thread([this, &slot] { serve(slot); });
    } catch (...) {
      stop();
      throw;
    }
  }
  AsyncWriter(const AsyncWriter&) = delete;
  AsyncWriter& operator=(const AsyncWriter&) = delete;
  /// Waits for what is being written; errors of that are lost: call `wait_written` to see them.
  ~AsyncWriter() { stop(); }

  /// The bytes of `tensors` must stay as they are until `wait_copied` returns. Waits for a free copy; throws what went
  /// wrong since the last call, and then begins nothing.
  void begin(std::vector<Tensor> tensors, Metadata metadata) {
    std::unique_lock lock(mutex_);
    Slot& slot = slots_[begun_ % slots_.size()];
    changed_.wait(lock, [&] { return slot.stage == Stage::idle && copied(); });
    rethrow();
    slot.tensors = std::move(tensors);
    slot.metadata = std::move(metadata);
    slot.number = begun_++;
    slot.stage = Stage::copying;
    lock.unlock();
    changed_.notify_all();
  }

  void wait_copied() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return copied(); });
    rethrow();
  }

  /// Returns when all that was begun is in its place on disk.
  void wait_written() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return ended_ == begun_; });
    rethrow();
  }

 private:
  enum class Stage { idle, copying, writing };
  struct Slot {
    std::thread thread;
    Stage stage = Stage::idle;
    std::size_t number = 0;
    std::vector<Tensor> tensors;
    Metadata metadata;
    Buffer<std::byte> staging;
  };

  bool copied() const {
    return std::none_of(slots_.begin(), slots_.end(), [](const Slot& s) { return s.stage == Stage::copying; });
  }
  void stop() {
    advance([this] { stopping_ = true; });
    for (auto& slot : slots_)
      if (slot.thread.joinable()) slot.thread.join();
  }
  void rethrow() {
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  }

  void serve(Slot& slot) {
    for (;;) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return slot.stage == Stage::copying || stopping_; });
      if (slot.stage != Stage::copying) return;
      lock.unlock();
      std::exception_ptr failure;
      try {
        stage(slot);
      } catch (...) {
        failure = std::current_exception();
      }
      advance([&] { slot.stage = Stage::writing; });
      try {
        if (!failure) publish(slot);
      } catch (...) {
        failure = std::current_exception();
      }
      lock.lock();
      changed_.wait(lock, [&] { return ended_ == slot.number; });  // also where the write failed
      if (failure && !failure_) failure_ = failure;
      ++ended_;
      slot.stage = Stage::idle;
      lock.unlock();
      changed_.notify_all();
    }
  }
  template <class F>
  void advance(F&& f) {
    {
      std::lock_guard lock(mutex_);
      f();
    }
    changed_.notify_all();
  }

  /// The tensors' bytes, one behind the other, and the tensors seen there.
  static void stage(Slot& slot) {
    std::size_t bytes = 0;
    for (const auto& t : slot.tensors) bytes += t.data.size();
    if (slot.staging.bytes() < bytes) slot.staging = Buffer<std::byte>(static_cast<Index>(bytes), uninitialized);
    std::byte* to = slot.staging.data();
    for (auto& t : slot.tensors) {
      if (!t.data.empty()) std::memcpy(to, t.data.data(), t.data.size());
      t.data = {to, t.data.size()};
      to += t.data.size();
    }
  }
  /// Written at once; renamed after the one before.
  void publish(Slot& slot) {
    AtomicFile file(path_);
    write_safetensors(file, std::span<const Tensor>(slot.tensors), slot.metadata);
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return ended_ == slot.number; });
    }
    file.commit();
  }

  std::string path_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::array<Slot, 2> slots_;
  std::size_t begun_ = 0, ended_ = 0;  // checkpoints
  bool stopping_ = false;
  std::exception_ptr failure_;
};

}  // namespace tessera::inline TESSERA_ABI::optim
