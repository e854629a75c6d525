/// Which method answers, and how well: what the functions of this module report and explain.
#pragma once

#include <ostream>
#include <string>
#include <vector>

#include <tessera/core/config.hpp>
#include <tessera/expr/explain.hpp>

namespace tessera::inline TESSERA_ABI {

/// How an answer was found. `error` is what `method` bounds or estimates: the relative residual of a solution, a
/// standard error of a stochastic estimate, 0 of a closed form.
struct Status {
  const char* method = "";
  bool converged = true;
  Index iterations = 0;  // products with A
  double error = 0;
};

/// The methods a function considers for an operator, in order; `why` is empty for the one that is chosen.
struct Methods {
  std::string question;  // "solve (Dense 4x4)"
  std::vector<KernelChoice> methods;

  const std::string& chosen() const {
    for (const auto& m : methods)
      if (m.why.empty()) return m.name;
    return question;
  }
  /// Adds one; `why` says why not, and is empty where it would do. The first that would do is chosen.
  Methods& consider(std::string name, std::string why) {
    for (const auto& m : methods)
      if (m.why.empty() && why.empty()) why = detail::concat(m.name, " comes first");
    methods.push_back({std::move(name), std::move(why)});
    return *this;
  }
  std::string text() const {
    std::string out = question + "\n";
    for (const auto& m : methods)
      out += detail::concat(m.why.empty() ? "    > " : "      ", m.name, m.why.empty() ? "" : ": ", m.why, '\n');
    return out;
  }
  friend std::ostream& operator<<(std::ostream& out, const Methods& m) { return out << m.text(); }
};

}  // namespace tessera::inline TESSERA_ABI
