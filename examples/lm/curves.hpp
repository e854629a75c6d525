/// Curves of a loss as SVG.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <tessera/core/error.hpp>
#include <vector>

#include "plot.hpp"

namespace lm {

struct Curve {
  std::string label;
  std::vector<double> values;  // at equal distances, from 0 to the end; what is not finite is left out
};

/// Throws format_error if the file cannot be written. The lowest value of all and the highest at the beginnings bound
/// the axis.
inline void write_curves(const std::filesystem::path& file, const std::string& title, const std::string& along,
                         double end, const std::string& value, const std::vector<Curve>& curves) {
  constexpr double width = 860, height = 480, left = 70, right = 190, top = 40, bottom = 55;
  double low = 1e300, high = -1e300;
  for (const auto& curve : curves)
    for (std::size_t i = 0; i < curve.values.size(); ++i)
      if (std::isfinite(curve.values[i])) {
        low = std::min(low, curve.values[i]);
        if (i == 0) high = std::max(high, curve.values[i]);
      }
  if (!(high > low)) high = low + 1;
  const auto x = [&](double share) { return left + share * (width - left - right); };
  const auto y = [&](double at) {
    return height - bottom - std::min(1.0, (at - low) / (high - low)) * (height - top - bottom);
  };
  std::string svg = fmt::format(
      R"(<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{1}" font-family="sans-serif" font-size="12">)"
      R"(<rect width="{0}" height="{1}" fill="white"/><text x="{2}" y="22" font-size="15">{3}</text>)",
      width, height, left, escape_xml(title));
  for (int i = 0; i <= 5; ++i) {
    const double share = i / 5.0, at = low + (high - low) * share;
    svg += fmt::format(
        R"(<path d="M{0} {1:.1f}H{2}" stroke="#ddd"/><text x="{3}" y="{4:.1f}" text-anchor="end">{5:.3g}</text>)"
        R"(<text x="{6:.1f}" y="{7}" text-anchor="middle">{8:.4g}</text>)",
        left, y(at), width - right, left - 6, y(at) + 4, at, x(share), height - bottom + 18, end * share);
  }
  svg += fmt::format(R"(<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>)", (left + width - right) / 2,
                     height - 12, escape_xml(along));
  svg += fmt::format(R"svg(<text transform="translate(16 {}) rotate(-90)" text-anchor="middle">{}</text>)svg",
                     (height + top - bottom) / 2, escape_xml(value));
  for (std::size_t c = 0; c < curves.size(); ++c) {
    const auto& curve = curves[c];
    const std::string colour =
        fmt::format("hsl({:.0f},70%,{}%)", 360.0 * static_cast<double>(c) / static_cast<double>(curves.size()),
                    c % 2 == 0 ? 42 : 58);
    std::string path;
    for (std::size_t i = 0; i < curve.values.size(); ++i)
      if (std::isfinite(curve.values[i]))
        path += fmt::format(
            "{}{:.1f} {:.1f}", path.empty() ? 'M' : 'L',
            x(static_cast<double>(i) / static_cast<double>(std::max<std::size_t>(curve.values.size() - 1, 1))),
            y(curve.values[i]));
    const double place = top + 10 + 16 * static_cast<double>(c);
    svg +=
        fmt::format(R"(<path d="{0}" fill="none" stroke="{1}" stroke-width="1.5"/><path d="M{2} {3}h18" stroke="{1}")"
                    R"( stroke-width="3"/><text x="{4}" y="{5}" font-size="11">{6}</text>)",
                    path, colour, width - right + 12, place, width - right + 36, place + 4, escape_xml(curve.label));
  }
  svg += "</svg>\n";
  std::ofstream out(file, std::ios::binary);
  if (!(out << svg) || !out.flush()) throw tessera::format_error("cannot write " + file.string());
}

}  // namespace lm
