/// At which level to send each chunk of a cache so that it is there in time.
#pragma once

#include <algorithm>
#include <span>

#include <tessera/core/config.hpp>
#include <tessera/core/error.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// Y. Liu et al., "CacheGen" (SIGCOMM 2024), §5.3: before each chunk, the level of the least error at which all chunks
/// left would be there by the deadline if bandwidth stayed as it was for the last one; text where even the last level
/// would be late or text is there first and, computed, in time: it has no error at all. O(chunks · levels).
class LevelController {
 public:
  static constexpr int text = -1;
  struct Chunk {
    std::span<const double> bytes;                // (levels), of less and less
    double text_bytes = 0, compute_seconds = -1;  // negative: there is no text to compute it from
  };

  /// Seconds from the start; bytes a second until any were measured. Throws unsupported_error unless both are positive.
  LevelController(double deadline, double bandwidth) : deadline_(deadline), bandwidth_(bandwidth) {
    if (!(deadline > 0) || !(bandwidth > 0))
      throw unsupported_error(tessera::detail::concat("tessera: LevelController with a deadline of ", deadline,
                                                      " s and ", bandwidth, " bytes/s; expected positive numbers"));
  }

  /// The level of left[0], or `text`; all chunks need the same number of levels, at least one.
  int choose(std::span<const Chunk> left, double elapsed) const {
    if (left.empty()) return 0;
    const auto levels = static_cast<int>(left[0].bytes.size());
    for (const Chunk& chunk : left)
      if (chunk.bytes.empty() || static_cast<int>(chunk.bytes.size()) != levels)
        throw shape_error(tessera::detail::concat("tessera: LevelController: chunks of ", levels, " and ",
                                                  static_cast<Index>(chunk.bytes.size()),
                                                  " levels; expected as many for all, at least one"));
    const double time = deadline_ - elapsed;
    double computed = 0, sent = 0;
    bool can_compute = true;
    for (const Chunk& chunk : left) {
      can_compute = can_compute && chunk.compute_seconds >= 0;
      computed += seconds(chunk, text);
    }
    if (can_compute && computed <= time) return text;
    for (int level = 0; level < levels; ++level) {
      sent = 0;
      for (const Chunk& chunk : left) sent += seconds(chunk, level);
      if (sent <= time) return level;
    }
    const bool sooner = left[0].compute_seconds >= 0 && seconds(left[0], text) < seconds(left[0], levels - 1);
    return sooner ? text : levels - 1;
  }
  /// What sending was like.
  void measured(double bytes, double seconds) {
    if (bytes > 0 && seconds > 0) bandwidth_ = bytes / seconds;
  }
  double bandwidth() const { return bandwidth_; }

 private:
  double seconds(const Chunk& chunk, int level) const {
    if (level == text) return chunk.text_bytes / bandwidth_ + std::max(chunk.compute_seconds, 0.0);
    return chunk.bytes[static_cast<std::size_t>(level)] / bandwidth_;
  }
  double deadline_, bandwidth_;
};

}  // namespace tessera::inline TESSERA_ABI::kv
