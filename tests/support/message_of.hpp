/// What an exception says.
#pragma once

#include <gtest/gtest.h>

#include <string>

namespace tessera::test {

template <class E, class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const E& failure) {
    return failure.what();
  }
  return "nothing was thrown";
}

}  // namespace tessera::test

#define EXPECT_SAYS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)
