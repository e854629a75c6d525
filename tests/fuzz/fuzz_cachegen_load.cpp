#include "cachegen_load.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  tessera::fuzz::cachegen_load({data, size});
  return 0;
}
