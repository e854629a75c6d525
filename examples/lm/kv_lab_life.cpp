#include "kv_lab_life.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <tessera/kernels/rows/rows.hpp>
#include <tessera/kv/budgets/scale_kv.hpp>
#include <tessera/kv/calibrate.hpp>
#include <tessera/kv/codecs/think.hpp>
#include <tessera/kv/matryoshka.hpp>
#include <tessera/matrix/dense.hpp>
#include <tuple>
#include <utility>

#include "progress.hpp"

namespace lm {

namespace {

double f16_bytes(Index kv_heads, Index n, Index d) { return static_cast<double>(2 * 2 * kv_heads * n * d); }

using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
Rows rows_of(Context& ctx, const kv::KvCacheBase& cache, kv::KvPart part, Index head) {
  Rows rows(cache.size(head), cache.head_dim());
  cache.copy_rows(part, head, 0, rows.rows(), rows.data(), kv::KvCacheBase::unpack_kernel(ctx));
  return rows;
}

/// "think f16", "matryoshka f16" with the numbers of "shrunk f16", or any name that make_kv_cache takes.
std::unique_ptr<kv::KvCacheBase> new_cache(Context& ctx, const std::string& codec, Index kv_heads, Index head_dim,
                                           ChannelSample& sample, const KvLabPolicy& policy) {
  std::unique_ptr<kv::KvCacheBase> cache;
  const std::string trained = "matryoshka";
  if ((codec.starts_with("think") && codec != "think f16") ||
      (codec.starts_with(trained) && !codec.starts_with(trained + " f16")))
    throw tessera::unsupported_error("KV codec '" + codec + "'; expected think f16 or matryoshka f16");
  if (codec == "think f16")
    cache = std::make_unique<kv::KvCache<kv::Think<>>>(kv_heads, head_dim, kv::Think<>{.channels = sample.think()});
  else if (codec.starts_with(trained))
    cache = kv::make_kv_cache("shrunk" + codec.substr(trained.size()), kv_heads, head_dim, sample.matryoshka(ctx))
                .base()
                .clone();
  else
    cache =
        kv::make_kv_cache(codec, kv_heads, head_dim, codec.starts_with("shrunk") ? sample.shrunk() : kv::ChannelMaps{})
            .base()
            .clone();
  if (policy.track && !policy.repeats) policy.track(*cache);
  return cache;
}

/// ScaleKV's index of a layer, the latest queries being the current map; mean over heads.
double selectivity(Context& ctx, const kv::KvCacheBase& cache, View<const float, 3> all) {
  const View<const float, 3> Q = latest(all);
  const Index heads = Q.extent(0), n = Q.extent(1), group = heads / cache.kv_heads();
  double sum = 0;
  for (Index h = 0; h < heads; ++h) {
    const Rows keys = rows_of(ctx, cache, kv::KvPart::keys, h / group);
    const Index m = keys.rows();
    Rows weights = Rows::Zero(n, m);
    for (Index i = 0; i < n; ++i) {
      const Eigen::Map<const Eigen::VectorXf> q(&Q(h, i, 0), keys.cols());
      const Index seen = m - n + i + 1;
      Eigen::VectorXf scores = keys.topRows(seen) * q / std::sqrt(static_cast<float>(keys.cols()));
      scores = (scores.array() - scores.maxCoeff()).exp();
      weights.row(i).head(seen) = scores.transpose() / scores.sum();
    }
    sum += kv::attention_selectivity_index(View<const float, 2>(weights.data(), {n, m}), m - n,
                                           std::max<Index>(m / 16, 1));
  }
  return sum / static_cast<double>(heads);
}

}  // namespace

void ChannelSample::add(Context& ctx, const kv::KvCacheBase& cache, View<const float, 3> Q) {
  const Index kv_heads = cache.kv_heads(), m = cache.size(0), d = cache.head_dim();
  const bool longest = m > keys_shape_[1];
  if (longest) {
    const Index n = std::min<Index>(Q.extent(1), 128);
    const View<const float, 3> some = Q.slice(1, Q.extent(1) - n, n);
    keys_shape_ = {kv_heads, m, d};
    queries_shape_ = {Q.extent(0), n, d};
    queries_ = KvLabQueries(some).rows();
    keys_.clear();
    values_.clear();
  }
  keys_gram_.resize(static_cast<std::size_t>(kv_heads));
  values_gram_.resize(keys_gram_.size());
  for (Index h = 0; h < kv_heads; ++h)
    for (const auto& [part, grams, kept] :
         {std::tuple{kv::KvPart::keys, &keys_gram_, &keys_}, std::tuple{kv::KvPart::values, &values_gram_, &values_}}) {
      const Rows rows = rows_of(ctx, cache, part, h);
      Eigen::MatrixXd& gram = (*grams)[static_cast<std::size_t>(h)];
      if (gram.size() == 0) gram.setZero(d, d);
      gram += (rows.transpose() * rows).cast<double>();
      if (longest) kept->insert(kept->end(), rows.data(), rows.data() + rows.size());
    }
}

const kv::ChannelMaps& ChannelSample::shrunk() {
  if (!shrunk_) {
    shrunk_.emplace();
    for (const auto& [grams, to] : {std::pair{&keys_gram_, &shrunk_->keys}, std::pair{&values_gram_, &shrunk_->values}})
      for (const Eigen::MatrixXd& gram : *grams)
        to->push_back(kv::cskv_calibrate(Eigen::MatrixXd::Identity(gram.rows(), gram.rows()), gram,
                                         std::max<Index>(gram.rows() / 2, 1)));
  }
  return *shrunk_;
}

const kv::ChannelMaps& ChannelSample::matryoshka(Context& ctx) {
  if (!matryoshka_) {
    matryoshka_.emplace();
    const auto [kv_heads, m, d] = keys_shape_;
    const View<const float, 3> Q(queries_.data(), queries_shape_);
    const Index group = queries_shape_[0] / kv_heads, half = std::max<Index>(d / 2, 1);
    for (Index h = 0; h < kv_heads; ++h) {
      const auto bases = kv::train_matryoshka(ctx, Q.slice(0, h * group, group),
                                              MatrixView<const float>(keys_.data() + h * m * d, m, d),
                                              MatrixView<const float>(values_.data() + h * m * d, m, d));
      matryoshka_->keys.push_back(kv::LinearMap::leading(bases.keys.cast<float>(), half));
      matryoshka_->values.push_back(kv::LinearMap::leading(bases.values.cast<float>(), half));
    }
  }
  return *matryoshka_;
}

std::vector<std::vector<Index>> ChannelSample::think() const {
  return kv::think_channels(View<const float, 3>(queries_.data(), queries_shape_),
                            View<const float, 3>(keys_.data(), keys_shape_), std::max<Index>(keys_shape_[2] / 2, 1));
}

RetrievalLife::RetrievalLife(Context& ctx, Index tokens)
    : tasks_{RetrievalTask::lookup(tokens, 1), RetrievalTask::prefix_suffix(tokens, 2),
             RetrievalTask::variables(tokens, 3), RetrievalTask::needles(tokens, 4),
             RetrievalTask::many_shot(tokens, 5)} {
  const auto other = RetrievalTask::lookup(tokens, 6).prompt();
  kv::KvCache<> cache(RetrievalTask::kv_heads, RetrievalTask::head_dim);
  cache.append(ctx, other.K(), other.V());
  sample_.add(ctx, cache, other.Q());
}

void RetrievalLife::check_codec(Context& ctx, const std::string& codec) {
  new_cache(ctx, codec, RetrievalTask::kv_heads, RetrievalTask::head_dim, sample_, {});
}

void RetrievalLife::read(Context& ctx, const KvLabPolicy& policy, KvLabRow& row) {
  if (policy.budgets || policy.rotates) return;  // there is but one layer, and keys are not rotated
  Index steps = 0, none = 0;
  double seconds = 0;
  const auto count = static_cast<double>(tasks_.size());
  row.retrieval_share = 0;
  row.multi_turn.accuracy = row.shared.accuracy = {};
  for (const RetrievalTask& task : tasks_) {
    auto cache = new_cache(ctx, row.codec, RetrievalTask::kv_heads, RetrievalTask::head_dim, sample_, policy);
    const auto prompt = task.prompt();
    Buffer<float> out(RetrievalTask::heads * prompt.tokens * RetrievalTask::head_dim);
    const auto append = [&](kv::KvCacheBase& to, const RetrievalTask::Projections& tokens) {
      to.append(ctx, tokens.K(), tokens.V());
      to.attend(ctx, tokens.Q(),
                View<float, 3>(out.data(), {RetrievalTask::heads, tokens.tokens, RetrievalTask::head_dim}));
    };
    append(*cache, prompt);
    std::unique_ptr<kv::KvCacheBase> repeated;
    if (policy.repeats) {
      repeated = cache->clone();
      policy.track(*repeated);
      append(*repeated, task.prompt(prompt.tokens));
    }
    const double whole = f16_bytes(RetrievalTask::kv_heads, prompt.tokens, RetrievalTask::head_dim);
    const auto asked = task.questions(0);  // all that is known when the cache is compressed
    const KvLabLayer layer{
        .probe = {.queries = asked.Q(), .report = false},
        .queries = prompt.Q(),
        .output = {output_.data(), RetrievalTask::answer_dim, RetrievalTask::heads * RetrievalTask::head_dim},
        .repeated = repeated.get()};
    shrink(ctx, {&cache, 1}, policy, row.share * whole, {&layer, 1});
    row.retrieval_share += static_cast<double>(cache->bytes()) / whole / count;
    for (std::size_t turn = 0; turn < kv_lab_turns; ++turn) {
      double right = 0;
      for (const auto& question : task.turns[turn]) {
        const auto shared = cache->clone();
        right += task.right(ctx, *shared, question, none) ? 1 : 0;
      }
      row.shared.accuracy[turn] += right / static_cast<double>(task.turns[turn].size()) / count;
    }
    const Stopwatch clock;
    double whole_life = 0;
    for (std::size_t turn = 0; turn < kv_lab_turns; ++turn) {
      const double right = task.answer(ctx, *cache, turn, steps);
      row.multi_turn.accuracy[turn] += right / count;
      whole_life += right / static_cast<double>(kv_lab_turns);
    }
    row.task_accuracy.push_back(whole_life);
    seconds += clock.seconds();
  }
  row.retrieval_speed = static_cast<double>(steps) / std::max(seconds, 1e-9);
}

TextLife::TextLife(Context& ctx, const Network& network, const Vocabulary& vocabulary, EvaluationText text, Index most,
                   const std::vector<Document>& documents)
    : network_(network), vocabulary_(vocabulary), text_(std::move(text)) {
  const Index context = network.config().context;
  for (const Window& window : text_.windows)
    if (static_cast<Index>(window.tokens.size()) == context + 1 && static_cast<Index>(windows_.size()) < most)
      windows_.push_back(window.tokens);
  if (windows_.empty()) throw tessera::format_error("no held-out text as long as the model's context");
  observe(ctx, documents);
}

/// What codecs and budgets want to know of the layers: of the beginnings of eight documents.
void TextLife::observe(Context& ctx, const std::vector<Document>& documents) {
  const Config& c = network_.config();
  const auto layers = static_cast<std::size_t>(c.layers);
  samples_.resize(layers);
  selectivity_.assign(layers, 0);
  std::size_t layer = 0;
  KvFormat format;
  format.make = [](Index kv_heads, Index head_dim) { return std::make_unique<kv::KvCache<>>(kv_heads, head_dim); };
  format.finish = [&](Context& worker, std::unique_ptr<kv::KvCacheBase>& cache, View<const float, 3> Q, Index, Index) {
    samples_[layer].add(worker, *cache, Q);
    selectivity_[layer] += selectivity(worker, *cache, Q);
    layer = (layer + 1) % layers;
  };
  Decoder decoder(network_, format);
  Buffer<float> logits(c.vocab);
  for (std::size_t d = 0; d < documents.size(); d += std::max<std::size_t>(documents.size() / 8, 1)) {
    const auto tokens = vocabulary_.encode(documents[d].text.substr(0, 16384));
    if (tokens.empty()) continue;
    decoder.restart();
    decoder.read(ctx, std::span(tokens).first(std::min(tokens.size(), static_cast<std::size_t>(c.context / 2))),
                 {logits.data(), 1, c.vocab});
  }
}

void TextLife::read(Context& ctx, const KvLabPolicy& policy, KvLabRow& row, bool first) {
  const Config& c = network_.config();
  const auto layers = static_cast<std::size_t>(c.layers);
  const Index n = c.context, prompt = n / 2, turn = (n - prompt) / static_cast<Index>(kv_lab_turns);
  const double whole = f16_bytes(c.kv_heads, prompt, c.head_dim());
  std::size_t made = 0;
  std::vector<KvLabQueries> queries;  // of the prompt, by layer
  KvFormat format;
  format.make = [&](Index kv_heads, Index head_dim) {
    return new_cache(ctx, row.codec, kv_heads, head_dim, samples_[made++ % layers], policy);
  };
  format.finish = [&](Context&, std::unique_ptr<kv::KvCacheBase>&, View<const float, 3> Q, Index, Index) {
    if (queries.size() < layers) queries.emplace_back(Q);
  };
  const auto compress = [&](Decoder& decoder, Decoder* repeated) {
    std::vector<KvLabLayer> known;
    for (std::size_t l = 0; l < layers; ++l) {
      const View<const float, 3> Q = queries[l].view();
      known.push_back({.probe = {.queries = latest(Q), .report = false},
                       .queries = Q,
                       .output = network_.layers()[l].wo.target<tessera::Dense<float>>()->view(),
                       .rope = &network_.rope(),
                       .repeated = repeated != nullptr ? repeated->caches()[l].get() : nullptr,
                       .selectivity = selectivity_[l]});
    }
    shrink(ctx, decoder.caches(), policy, row.share * whole, known);
  };
  Buffer<float> memory(turn * c.vocab), lse(turn);
  const MatrixView<float> logits(memory.data(), turn, c.vocab);
  const VectorView<float> sums(lse.data(), turn);
  ByTurn bytes{};
  std::size_t at = 0;
  const double scored = static_cast<double>(turn) * static_cast<double>(windows_.size());
  const auto read_turn = [&](Decoder& decoder, std::span<const std::int32_t> tokens, std::size_t begin, Index step) {
    const Stopwatch clock;
    for (Index i = 0; i < turn; i += step)
      decoder.read(ctx, tokens.subspan(begin + static_cast<std::size_t>(i), static_cast<std::size_t>(step)),
                   logits.slice(0, i, step));
    return clock.seconds();
  };
  const auto ask = [&](Decoder& decoder, std::span<const std::int32_t> tokens, std::size_t t, KvLabLife& life,
                       bool one_by_one) {
    const auto begin = static_cast<std::size_t>(prompt + static_cast<Index>(t) * turn);
    for (int repeat = 0; one_by_one && repeat < 2; ++repeat) {  // the best of three
      Decoder again(decoder);
      row.text_speed = std::max(row.text_speed, static_cast<double>(turn) / read_turn(again, tokens, begin, 1));
    }
    const double seconds = read_turn(decoder, tokens, begin, one_by_one ? 1 : turn);
    if (one_by_one) row.text_speed = std::max(row.text_speed, static_cast<double>(turn) / seconds);
    tessera::log_sum_exp_rows(ctx, logits, sums);
    double nats = 0, divergence = 0;
    for (Index i = 0; i < turn; ++i) {
      nats += static_cast<double>(sums[i] - logits(i, tokens[begin + static_cast<std::size_t>(i) + 1]));
      for (Index j = 0; j < c.vocab; ++j) {
        const float log_p = logits(i, j) - sums[i];
        if (first) {
          reference_.push_back(log_p);
        } else {
          const auto expected = static_cast<double>(reference_[at++]);
          divergence += std::exp(expected) * (expected - static_cast<double>(log_p));
        }
      }
    }
    life.bits_per_byte[t] += nats / std::numbers::ln2;
    life.divergence[t] += divergence / std::numbers::ln2 / scored;
  };
  Decoder decoder(network_, format);
  row.text_share = 0;
  for (const auto& tokens : windows_) {
    decoder.restart();
    queries.clear();
    const auto read_prompt = [&](Decoder& by) {
      by.read(ctx, tokens.first(static_cast<std::size_t>(prompt)), logits.slice(0, 0, 1));
    };
    read_prompt(decoder);
    std::optional<Decoder> repeated;
    if (policy.repeats) {
      repeated.emplace(decoder);
      for (const auto& cache : repeated->caches()) policy.track(*cache);
      read_prompt(*repeated);
    }
    compress(decoder, repeated ? &*repeated : nullptr);
    row.text_share += static_cast<double>(decoder.kv_bytes()) /
                      (whole * static_cast<double>(layers) * static_cast<double>(windows_.size()));
    const Decoder compressed(decoder);
    for (std::size_t t = 0; t < kv_lab_turns; ++t) {
      for (Index i = 0; i < turn; ++i) {
        const auto place = static_cast<std::size_t>(prompt + static_cast<Index>(t) * turn + i);
        bytes[t] += static_cast<double>(vocabulary_.decode(tokens[place], tokens[place + 1]).size());
      }
      const bool last_of_first = t + 1 == kv_lab_turns && tokens.data() == windows_.front().data();
      ask(decoder, tokens, t, row.multi_turn, last_of_first);
    }
    for (std::size_t t = 1; t < kv_lab_turns; ++t) {
      Decoder again(compressed);
      ask(again, tokens, t, row.shared, false);
    }
  }
  row.shared.bits_per_byte[0] = row.multi_turn.bits_per_byte[0];  // nothing was asked before
  row.shared.divergence[0] = row.multi_turn.divergence[0];
  for (KvLabLife* life : {&row.multi_turn, &row.shared})
    for (std::size_t t = 0; t < kv_lab_turns; ++t) {
      life->bits_per_byte[t] /= std::max(bytes[t], 1.0);
      life->divergence[t] = std::max(0.0, life->divergence[t]);
    }
}

}  // namespace lm
