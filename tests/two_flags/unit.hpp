/// What one unit says about the library it saw. The definitions of `report` are body.hpp at different flags.
#pragma once

#include <string>

struct UnitReport {
  std::string view_type;                  // mangled name of a library type
  std::string abi;                        // the inline namespace
  const void* function = nullptr;         // of an inline function of the library
  std::string isa;                        // whose kernels it may run
  std::string kernels;                    // chosen for f32 matrices and vectors
  double (*product_seconds)() = nullptr;  // processor time of one of f32
  double sum = 0;                         // of a product through the public interface
  bool catches = false;                   // catches what its own library throws
};

UnitReport plain_report();
UnitReport wide_report();
UnitReport limited_report();
