/// A cache's life in kv_lab: read once, compressed once, then asked; over planted heads and over a model's text.
#pragma once

#include <Eigen/Core>
#include <array>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "evaluate.hpp"
#include "kv_policies.hpp"
#include "retrieval.hpp"

namespace lm {

inline constexpr std::size_t kv_lab_turns = 3;
using ByTurn = std::array<double, kv_lab_turns>;
inline double mean(const ByTurn& of) { return (of[0] + of[1] + of[2]) / kv_lab_turns; }
inline constexpr double not_measured = std::numeric_limits<double>::quiet_NaN();

/// Turns that follow each other in the cache, or that are each asked of the compressed cache itself.
struct KvLabLife {
  ByTurn accuracy{not_measured, not_measured, not_measured};  // of retrieval, mean over the tasks
  ByTurn bits_per_byte{}, divergence{};                       // of text; KL in bits a token against the f32 cache
};

struct KvLabRow {
  std::string policy, codec;
  double share = 1;                                                  // asked for, of the f16 cache
  double retrieval_share = not_measured, text_share = not_measured;  // measured: bytes held after compression
  KvLabLife multi_turn, shared;
  std::vector<double> task_accuracy;                      // multi-turn, of all turns
  double retrieval_speed = not_measured, text_speed = 0;  // steps and tokens a second, one at a time
};

/// What a layer's queries, keys and values are like: codecs that hold fewer channels, half of them, ask it which.
class ChannelSample {
 public:
  /// Of all tokens of a cache, to which those of Q (heads, n, d) were the last to come.
  void add(Context& ctx, const kv::KvCacheBase& cache, View<const float, 3> Q);
  /// Of least error of keys and values, after CSKV.
  const kv::ChannelMaps& shrunk();
  /// Of least error of attention, after MatryoshkaKV; trained on the longest sequence that was added.
  const kv::ChannelMaps& matryoshka(Context& ctx);
  /// Of keys, that the queries of that sequence use most, after ThinK.
  std::vector<std::vector<Index>> think() const;

 private:
  std::vector<Eigen::MatrixXd> keys_gram_, values_gram_;  // (kv_heads), (d, d)
  std::vector<float> queries_, keys_, values_;            // (heads, n, d), (kv_heads, m, d)
  std::array<Index, 3> queries_shape_{}, keys_shape_{};
  std::optional<kv::ChannelMaps> shrunk_, matryoshka_;
};

/// Tasks of one layer whose heads are planted.
class RetrievalLife {
 public:
  RetrievalLife(Context& ctx, Index tokens);
  const std::vector<RetrievalTask>& tasks() const { return tasks_; }
  /// Throws unsupported_error for a name that no codec has.
  void check_codec(Context& ctx, const std::string& codec);
  void read(Context& ctx, const KvLabPolicy& policy, KvLabRow& row);

 private:
  std::vector<RetrievalTask> tasks_;
  ChannelSample sample_;
  Buffer<float> output_ = RetrievalTask::output();
};

/// Half a window is read and compressed; the rest are the turns.
class TextLife {
 public:
  /// At most so many windows of the text; layers are known from some of the documents. Throws format_error without a
  /// window as long as the context.
  TextLife(Context& ctx, const Network& network, const Vocabulary& vocabulary, EvaluationText text, Index most,
           const std::vector<Document>& documents);
  std::size_t windows() const { return windows_.size(); }
  /// Against the reference, or to become it.
  void read(Context& ctx, const KvLabPolicy& policy, KvLabRow& row, bool first = false);

 private:
  void observe(Context& ctx, const std::vector<Document>& documents);

  const Network& network_;
  const Vocabulary& vocabulary_;
  EvaluationText text_;
  std::vector<std::span<const std::int32_t>> windows_;
  std::vector<ChannelSample> samples_;  // (layers)
  std::vector<double> selectivity_;     // (layers)
  Reference reference_;
};

}  // namespace lm
