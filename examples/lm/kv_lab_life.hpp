/// A cache's life in kv_lab: read once, compressed once, then asked; over planted heads and over a model's text.
#pragma once

#include <Eigen/Core>
#include <array>
#include <functional>
#include <limits>
#include <memory>
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

/// Gram matrices of a layer's keys and values, for codecs whose maps of channels come from a sample.
class ChannelSample {
 public:
  void add(Context& ctx, const kv::KvCacheBase& cache);
  /// To half of the channels, for each kv head.
  kv::ChannelMaps maps() const;

 private:
  std::vector<Eigen::MatrixXd> keys_, values_;  // (kv_heads), (d, d)
};

/// Tasks of one layer whose heads are planted.
class RetrievalLife {
 public:
  RetrievalLife(Context& ctx, Index tokens);
  const std::vector<RetrievalTask>& tasks() const { return tasks_; }
  void read(Context& ctx, const KvLabPolicy& policy, KvLabRow& row) const;

 private:
  std::vector<RetrievalTask> tasks_;
  ChannelSample sample_;
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
