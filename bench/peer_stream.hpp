/// STREAM's four loops as anyone writes them; one thread.
#pragma once

#include <cstddef>

namespace peers {

void copy(float* a, const float* b, std::ptrdiff_t n);
void scale(float* a, const float* b, float s, std::ptrdiff_t n);
void add(float* a, const float* b, const float* c, std::ptrdiff_t n);
void triad(float* a, const float* b, const float* c, float s, std::ptrdiff_t n);

}  // namespace peers
