/// A computation as a list of einsums, and what follows from its dependencies alone: how often it must pass over a
/// sequence, and which tensors must be held for that.
/// N. Nayak et al., "FuseMax: Leveraging Extended Einsums to Optimize Attention Accelerator Design" (MICRO 2024), §III.
#pragma once

#include <algorithm>
#include <cctype>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <tessera/core/config.hpp>
#include <tessera/core/error.hpp>

namespace tessera::inline TESSERA_ABI {

/// One index of a tensor: each element of the rank in turn ("m1"), the one after it ("m1+1", of a recurrence), or the
/// last state of a recurrence ("M1").
struct EinsumRank {
  enum At { each, next, last };
  std::string name;
  At at = each;
};

struct EinsumAccess {
  std::string tensor;
  std::vector<EinsumRank> ranks;
};

/// A rank of the inputs that the output lacks is reduced, by whatever operation.
struct Einsum {
  EinsumAccess output;
  std::vector<EinsumAccess> inputs;
};

namespace detail {

/// "LM[m1,p] = max QK[m1,m0,p]": tensors are words before a bracket, the first is the output, all else is for readers.
inline Einsum parse_einsum(std::string_view text) {
  std::vector<EinsumAccess> found;
  const auto fail = [&](std::size_t at, const char* why) {
    throw format_error(concat("tessera: einsum \"", text, "\", at ", at, ": ", why));
  };
  const auto word = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; };
  for (std::size_t open = text.find('['); open != std::string_view::npos; open = text.find('[', open + 1)) {
    std::size_t begin = open;
    while (begin > 0 && word(text[begin - 1])) --begin;
    if (begin == open) fail(open, "expected a tensor's name before [");
    const std::size_t close = text.find(']', open);
    if (close == std::string_view::npos) fail(open, "expected ] after [");
    EinsumAccess access{std::string(text.substr(begin, open - begin)), {}};
    for (std::size_t at = open + 1; at < close;) {
      const std::size_t end = std::min(close, text.find(',', at));
      EinsumRank rank{std::string(text.substr(at, end - at)), EinsumRank::each};
      if (rank.name.size() > 2 && rank.name.ends_with("+1")) {
        rank.name.resize(rank.name.size() - 2);
        rank.at = EinsumRank::next;
      } else if (!rank.name.empty() && std::isupper(static_cast<unsigned char>(rank.name[0])) != 0) {
        rank.name[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(rank.name[0])));
        rank.at = EinsumRank::last;
      }
      if (rank.name.empty() || !std::all_of(rank.name.begin(), rank.name.end(), word))
        fail(at, "expected a rank: a word, one with +1, or one in a capital letter");
      access.ranks.push_back(std::move(rank));
      at = end + 1;
    }
    found.push_back(std::move(access));
    open = close;
  }
  const std::size_t equals = text.find('=');
  if (found.empty() || equals == std::string_view::npos || equals < text.find(']')) fail(0, "expected OUT[…] = …");
  Einsum einsum{std::move(found.front()), {}};
  einsum.inputs.assign(std::make_move_iterator(found.begin() + 1), std::make_move_iterator(found.end()));
  return einsum;
}

}  // namespace detail

/// Einsums in the order of their computation, over the sequence rank `sequence` and its partitions: of rank m, blocks
/// m1 of elements m0, outermost first.
class EinsumCascade {
 public:
  /// Throws format_error for what is no einsum, unsupported_error where a tensor is read before it is made or made
  /// twice. O(einsums²).
  EinsumCascade(std::string sequence, std::vector<std::string> einsums) : sequence_(std::move(sequence)) {
    for (const auto& text : einsums) einsums_.push_back(detail::parse_einsum(text));
    for (std::size_t e = 0; e < einsums_.size(); ++e)
      for (std::size_t later = e; later < einsums_.size(); ++later) {
        const auto& made = einsums_[later].output.tensor;
        if (later > e && made == einsums_[e].output.tensor)
          throw unsupported_error(detail::concat("tessera: einsum cascade: ", made, " is made by \"", einsums[e],
                                                 "\" and by \"", einsums[later], '"'));
        for (const auto& input : einsums_[e].inputs)
          if (input.tensor == made && !(later == e && recurs(einsums_[e])))
            throw unsupported_error(detail::concat("tessera: einsum cascade: ", made, " is read by \"", einsums[e],
                                                   "\" before \"", einsums[later], "\" makes it"));
      }
    for (const auto& einsum : einsums_) place(einsum);
  }

  const std::vector<Einsum>& einsums() const { return einsums_; }

  /// In which pass over the sequence a tensor is made: one more than that of any reduction over the sequence that its
  /// elements need; 0 for what needs no pass or is given.
  Index pass_of(const std::string& tensor) const {
    const auto found = made_.find(tensor);
    return found == made_.end() ? 0 : found->second;
  }
  Index passes() const {
    Index most = 0;
    for (const auto& [tensor, pass] : made_) most = std::max(most, pass);
    return most;
  }

  /// Words of `tensor` that must be held at a time: all of it if a later pass reads it along the sequence, else one
  /// element of its outermost sequence rank; none if it is given, or read by no one: a result. Throws unsupported_error
  /// for a rank without an extent.
  Index held_words(const std::string& tensor, const std::map<std::string, Index>& extents) const {
    if (!made_.contains(tensor)) return 0;
    bool read = false, kept = false;
    const EinsumAccess* shape = nullptr;
    for (const auto& einsum : einsums_) {
      if (einsum.output.tensor == tensor) shape = &einsum.output;
      for (const auto& input : einsum.inputs)
        if (input.tensor == tensor) {
          read = true;
          kept = kept || (streams(input) && pass_of(einsum.output.tensor) > pass_of(tensor));
        }
    }
    if (!read) return 0;
    Index words = 1;
    bool outermost = true;
    for (const auto& rank : shape->ranks) {
      const bool current = outermost && !kept && of_sequence(rank);
      if (of_sequence(rank)) outermost = false;
      const auto extent = extents.find(rank.name);
      if (extent == extents.end())
        throw unsupported_error(
            detail::concat("tessera: einsum cascade: rank ", rank.name, " of ", tensor, " has no extent"));
      if (!current) words *= extent->second;
    }
    return words;
  }
  /// Of all tensors together.
  Index live_words(const std::map<std::string, Index>& extents) const {
    Index words = 0;
    for (const auto& [tensor, pass] : made_) words += held_words(tensor, extents);
    return words;
  }

 private:
  bool of_sequence(const EinsumRank& rank) const {
    return rank.name.starts_with(sequence_) &&
           std::all_of(rank.name.begin() + static_cast<std::ptrdiff_t>(sequence_.size()), rank.name.end(),
                       [](char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; });
  }
  bool streams(const EinsumAccess& access) const {
    return std::any_of(access.ranks.begin(), access.ranks.end(),
                       [&](const EinsumRank& rank) { return of_sequence(rank) && rank.at != EinsumRank::last; });
  }
  static bool recurs(const Einsum& einsum) {
    return std::any_of(einsum.output.ranks.begin(), einsum.output.ranks.end(),
                       [](const EinsumRank& rank) { return rank.at == EinsumRank::next; });
  }
  void place(const Einsum& einsum) {
    bool runs = streams(einsum.output);
    for (const auto& input : einsum.inputs) runs = runs || streams(input);
    Index pass = runs ? 1 : 0;
    for (const auto& input : einsum.inputs) {
      const auto made = made_.find(input.tensor);
      // What is streamed may be used as it is made; what is reduced is there when its pass has ended.
      if (made != made_.end()) pass = std::max(pass, made->second + (runs && !streams(input) ? 1 : 0));
    }
    made_[einsum.output.tensor] = pass;
  }

  std::string sequence_;
  std::vector<Einsum> einsums_;
  std::map<std::string, Index> made_;
};

/// How often the cascade must pass over the sequence.
inline Index count_passes(const EinsumCascade& cascade) { return cascade.passes(); }

}  // namespace tessera::inline TESSERA_ABI
