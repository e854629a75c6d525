/// What an optimizer is made from when it is made by its name: by_name.hpp has the names.
#pragma once

#include <cmath>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <tessera/optim/any.hpp>
#include <tessera/optim/hyper.hpp>

namespace tessera::inline TESSERA_ABI::optim {

using AnySchedule = std::function<double(Index)>;
using AnyMask = std::function<bool(const ParameterInfo&)>;

/// Which blocks decay, and which are matrices to methods that treat those by themselves: for language models neither
/// gains nor, of the latter, embeddings and outputs.
struct RecipeMasks {
  AnyMask decayed = matrices_only{};
  AnyMask matrices = matrices_only{};
};

/// Hyper-parameters by name. What asks for one says its usual value: so the names that an optimizer has are those it
/// asked for.
class Recipe {
 public:
  /// Throws unsupported_error for two of one name, for values that are not finite and for an `eps…` below 0.
  explicit Recipe(std::vector<HyperParameter> given, RecipeMasks masks = {})
      : given_(std::move(given)), masks_(std::move(masks)) {
    HyperValues unique(given_);
    for (const auto& one : given_) {
      if (!std::isfinite(one.value))
        throw unsupported_error(
            detail::concat("tessera: hyper-parameter '", one.name, "' is ", one.value, "; expected a finite number"));
      if (one.name.starts_with("eps")) detail::checked_least("hyper-parameter", one.name, one.value);
    }
  }

  /// Throws unsupported_error where a schedule was given.
  double operator()(const std::string& name, double usual) {
    const HyperParameter* one = find(name, usual);
    if (one == nullptr) return usual;
    if (one->schedule)
      throw unsupported_error(
          detail::concat("tessera: hyper-parameter '", name, "' is given as a schedule; expected a number"));
    return one->value;
  }
  /// What a running average keeps of the past. Throws unsupported_error unless it is in [0, 1), or where `all` may be
  /// kept in [0, 1].
  double decay(const std::string& name, double usual, bool all = false) {
    return detail::checked_decay("hyper-parameter", name, (*this)(name, usual), all);
  }
  /// Throws unsupported_error unless it is a whole number, `least` or more.
  Index whole(const std::string& name, Index usual, Index least = 0) {
    const double value = (*this)(name, static_cast<double>(usual));
    if (value != std::floor(value) || value < static_cast<double>(least) || value > 1e15)
      throw unsupported_error(detail::concat("tessera: hyper-parameter '", name, "' is ", value,
                                             "; expected a whole number, at least ", least));
    return static_cast<Index>(value);
  }
  /// The learning rate, a number or a schedule.
  AnySchedule rate(double usual) {
    const HyperParameter* one = find("rate", usual);
    if (one != nullptr && one->schedule) return one->schedule;
    return constant{one == nullptr ? usual : one->value};
  }
  const AnyMask& decayed() const { return masks_.decayed; }
  const AnyMask& matrices() const { return masks_.matrices; }

  /// Every name that was asked for, with its usual value.
  const std::map<std::string, double>& asked() const { return asked_; }
  /// Throws unsupported_error for what was given and not asked for.
  void check_all_taken(const std::string& optimizer) const {
    for (const auto& one : given_) {
      if (asked_.contains(one.name)) continue;
      std::string names;
      for (const auto& [name, usual] : asked_) names += (names.empty() ? "" : ", ") + name;
      throw unsupported_error(detail::concat("tessera: optimizer '", optimizer, "' has no hyper-parameter '", one.name,
                                             "'; it has: ", names));
    }
  }

 private:
  const HyperParameter* find(const std::string& name, double usual) {
    asked_.emplace(name, usual);
    for (const auto& one : given_)
      if (one.name == name) return &one;
    return nullptr;
  }

  std::vector<HyperParameter> given_;
  RecipeMasks masks_;
  std::map<std::string, double> asked_;
};

/// A name and what makes the optimizer.
template <class T>
struct NamedOptimizer {
  std::string name;
  std::function<AnyOptimizer<T>(const std::string&, Recipe&)> make;

  template <class Make>
  NamedOptimizer(std::string its_name, Make its)
      : name(std::move(its_name)),
        make([its](const std::string& as, Recipe& recipe) { return AnyOptimizer<T>(as, its(recipe)); }) {}
};

/// All that can be made by name, in by_name.hpp: what instantiates this compiles every optimizer.
template <class T>
const std::vector<NamedOptimizer<T>>& named_optimizers();

template <class T>
std::vector<std::string> optimizer_names() {
  std::vector<std::string> names;
  for (const auto& one : named_optimizers<T>()) names.push_back(one.name);
  return names;
}

/// `make_optimizer<float>("adamw", {{"rate", warmup_cosine{…}}, {"weight_decay", 0.1}})`. Throws unsupported_error for
/// names of optimizers and hyper-parameters that are not known, listing those that are.
template <class T>
AnyOptimizer<T> make_optimizer(std::string_view name, std::vector<HyperParameter> given = {}, RecipeMasks masks = {}) {
  std::string names;
  for (const auto& one : named_optimizers<T>()) {
    names += (names.empty() ? "" : ", ") + one.name;
    if (one.name != name) continue;
    Recipe recipe(std::move(given), std::move(masks));
    auto made = one.make(one.name, recipe);
    recipe.check_all_taken(one.name);
    return made;
  }
  throw unsupported_error(detail::concat("tessera: no optimizer '", name, "'; there are: ", names));
}

/// Its hyper-parameters and their usual values.
template <class T>
std::map<std::string, double> optimizer_hyper_parameters(std::string_view name) {
  for (const auto& one : named_optimizers<T>())
    if (one.name == name) {
      Recipe recipe({});
      one.make(one.name, recipe);
      return recipe.asked();
    }
  return make_optimizer<T>(name), std::map<std::string, double>();  // which throws
}

}  // namespace tessera::inline TESSERA_ABI::optim
