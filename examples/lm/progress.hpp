/// A progress line on standard error, and Ctrl-C as a request to stop.
#pragma once

#include <fmt/format.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <string_view>

namespace lm {

/// Time that has gone by, or with TESSERA_CLOCK=cpu this thread's processor time, for busy machines.
class Stopwatch {
 public:
  double seconds() const { return now() - start_; }

 private:
  static double now() {
    static const char* const clock = std::getenv("TESSERA_CLOCK");
    timespec time{};
    clock_gettime(clock != nullptr && std::string_view(clock) == "cpu" ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC,
                  &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  }

  double start_ = now();
};

/// One line that is rewritten on a terminal; elsewhere `show` prints nothing and `log` a line.
class Progress {
 public:
  ~Progress() { clear(); }

  void show(const std::string& line) {
    if (!terminal_) return;
    fmt::print(stderr, "\r{}\x1b[K", line);
    shown_ = true;
  }
  void bar(double done, const std::string& what) {
    constexpr int width = 30;
    const int full = static_cast<int>(done * width);
    show(fmt::format("[{}{}] {:3.0f}%  {}", std::string(static_cast<std::size_t>(full), '#'),
                     std::string(static_cast<std::size_t>(width - full), '.'), 100 * done, what));
  }
  void log(const std::string& line) {
    clear();
    fmt::print(stderr, "{}\n", line);
  }
  void clear() {
    if (shown_) fmt::print(stderr, "\r\x1b[K");
    shown_ = false;
  }

 private:
  bool terminal_ = isatty(STDERR_FILENO) != 0;
  bool shown_ = false;
};

inline std::string clock_text(double seconds) {
  const int s = static_cast<int>(seconds);
  return s < 3600 ? fmt::format("{}:{:02}", s / 60, s % 60)
                  : fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

/// True once SIGINT, SIGTERM or SIGHUP has come; a second one ends the program at once.
class StopRequest {
 public:
  StopRequest() {
    std::signal(SIGINT, handler);
    std::signal(SIGTERM, handler);
    std::signal(SIGHUP, handler);
  }
  operator bool() const { return requested() != 0; }

 private:
  static volatile std::sig_atomic_t& requested() {
    static volatile std::sig_atomic_t flag = 0;
    return flag;
  }
  static void handler(int signal) {
    requested() = 1;
    std::signal(signal, SIG_DFL);
  }
};

}  // namespace lm
