/// Quality against bytes as an SVG scatter, bytes on a logarithmic axis.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <tessera/core/error.hpp>
#include <vector>

namespace lm {

struct PlotPoint {
  std::string label;
  double bytes = 0;
  double bits_per_byte = 0;
};

struct PlotPanel {
  std::string title;
  std::vector<PlotPoint> points;
  std::string value = "bits per byte of text", bytes = "bytes";
  bool frontier = false;  // a line through the points that none of at most their bytes is better than
};

inline std::string escape_xml(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '&')
      escaped += "&amp;";
    else if (c == '<')
      escaped += "&lt;";
    else
      escaped += c;
  }
  return escaped;
}

/// From few bytes to many, the points better than all of at most their bytes.
inline std::vector<PlotPoint> frontier(std::vector<PlotPoint> points) {
  std::sort(points.begin(), points.end(), [](const PlotPoint& a, const PlotPoint& b) {
    return a.bytes != b.bytes ? a.bytes < b.bytes : a.bits_per_byte < b.bits_per_byte;
  });
  std::vector<PlotPoint> best;
  for (const auto& p : points)
    if (best.empty() || p.bits_per_byte < best.back().bits_per_byte) best.push_back(p);
  return best;
}

/// One panel beside another, each 560 x 400. Throws format_error if the file cannot be written.
inline void write_plot(const std::filesystem::path& file, const std::vector<PlotPanel>& panels) {
  constexpr double width = 560, height = 400, left = 70, right = 30, top = 40, bottom = 55;
  std::string svg = fmt::format(
      R"(<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{1}" font-family="sans-serif" font-size="12">)"
      R"(<rect width="{0}" height="{1}" fill="white"/>)",
      width * static_cast<double>(panels.size()), height);
  double offset = 0;
  for (const auto& panel : panels) {
    if (panel.points.empty()) continue;
    double x0 = 1e300, x1 = 0, y0 = 1e300, y1 = 0;
    for (const auto& p : panel.points) {
      x0 = std::min(x0, std::log2(p.bytes));
      x1 = std::max(x1, std::log2(p.bytes));
      y0 = std::min(y0, p.bits_per_byte);
      y1 = std::max(y1, p.bits_per_byte);
    }
    x0 = std::floor(x0 - 0.2);
    x1 = std::ceil(x1 + 0.2);
    const double margin = std::max(0.02, 0.1 * (y1 - y0));
    y0 -= margin;
    y1 += margin;
    const auto x = [&](double bytes) {
      return offset + left + (std::log2(bytes) - x0) / (x1 - x0) * (width - left - right);
    };
    const auto y = [&](double value) { return height - bottom - (value - y0) / (y1 - y0) * (height - top - bottom); };
    svg += fmt::format(R"(<text x="{:.1f}" y="22" font-size="15">{}</text>)", offset + left, escape_xml(panel.title));
    for (int e = static_cast<int>(x0); e <= static_cast<int>(x1); ++e) {
      const double bytes = std::exp2(e);
      svg += fmt::format(
          R"(<path d="M{0:.1f} {1}V{2}" stroke="#ddd"/><text x="{0:.1f}" y="{3}" text-anchor="middle">{4}</text>)",
          x(bytes), top, height - bottom, height - bottom + 18,
          bytes >= 1 << 20 ? fmt::format("{:g} MiB", bytes / (1 << 20)) : fmt::format("{:g} KiB", bytes / 1024));
    }
    for (int i = 0; i <= 5; ++i) {
      const double value = y0 + (y1 - y0) * i / 5;
      svg += fmt::format(
          R"(<path d="M{0:.1f} {1:.1f}H{2:.1f}" stroke="#ddd"/><text x="{3:.1f}" y="{4:.1f}" text-anchor="end">{5:.3f}</text>)",
          offset + left, y(value), offset + width - right, offset + left - 6, y(value) + 4, value);
    }
    svg += fmt::format(R"(<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>)", offset + (width + left - right) / 2,
                       height - 12, escape_xml(panel.bytes));
    svg += fmt::format(R"svg(<text transform="translate({:.1f} {}) rotate(-90)" text-anchor="middle">{}</text>)svg",
                       offset + 16, (height + top - bottom) / 2, escape_xml(panel.value));
    if (panel.frontier) {
      std::string path;
      for (const auto& p : frontier(panel.points))
        path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? 'M' : 'L', x(p.bytes), y(p.bits_per_byte));
      svg += fmt::format(R"(<path d="{}" fill="none" stroke="#c33" stroke-width="1.5"/>)", path);
    }
    for (const auto& p : panel.points)
      svg += fmt::format(
          R"(<circle cx="{0:.1f}" cy="{1:.1f}" r="4" fill="#1f5fa8"/><text x="{2:.1f}" y="{3:.1f}" font-size="11">{4}</text>)",
          x(p.bytes), y(p.bits_per_byte), x(p.bytes) + 6, y(p.bits_per_byte) - 6, escape_xml(p.label));
    offset += width;
  }
  svg += "</svg>\n";
  std::ofstream out(file, std::ios::binary);
  if (!(out << svg) || !out.flush()) throw tessera::format_error("cannot write " + file.string());
}

}  // namespace lm
