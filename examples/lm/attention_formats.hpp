/// Ways of attention to read less than everything, and what they are chosen by.
#pragma once

#include <cstdint>
#include <vector>

#include "decoder.hpp"

namespace lm {

/// The mean entropy in nats of each kv head's queries over about `tokens` of the documents: [layer][kv head]. Throws
/// format_error without text.
std::vector<std::vector<double>> head_entropies(Context& ctx, const Network& network,
                                                const std::vector<std::vector<std::int32_t>>& documents,
                                                Index tokens = 8192);

/// Everything first; windows and budgets are for a context of the model's.
std::vector<KvFormat> attention_formats(const Config& config, const std::vector<std::vector<double>>& entropies);

}  // namespace lm
