/// The weight and KV representations that the programs offer by name.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <tessera/core/error.hpp>
#include <vector>

#include "decoder.hpp"

namespace lm {

/// f32 first; the rest from more to fewer bytes.
std::vector<WeightFormat> weight_formats();

/// Those that look at what each linear layer of `model` sees of `documents`, about `tokens` of them (4 bits unless
/// said), and the structured ones, trained for `finetune` steps: `represent` then takes the tensors of this model
/// alone. Throws format_error without text.
std::vector<WeightFormat> calibrated_weight_formats(Context& ctx, const Model& model,
                                                    const std::vector<std::vector<std::int32_t>>& documents,
                                                    Index finetune = 0, Index tokens = 32768);

/// f32 with every token first. Windows and budgets are for a context of `context` tokens.
std::vector<KvFormat> kv_formats(Index context);

/// The one of that name. Throws unsupported_error naming them all.
template <class Format>
const Format& find(const std::vector<Format>& formats, std::string_view name) {
  std::string names;
  for (const auto& format : formats) {
    if (format.name == name) return format;
    names += (names.empty() ? "'" : ", '") + format.name + "'";
  }
  throw tessera::unsupported_error(tessera::detail::concat("'", name, "' is none of ", names));
}

}  // namespace lm
