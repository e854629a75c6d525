# Inside another project nothing but the targets is made.
foreach(option TESSERA_BUILD_TESTS TESSERA_BUILD_BENCH TESSERA_BUILD_EXAMPLES TESSERA_INSTALL)
  if(${option})
    message(FATAL_ERROR "${option} is on though tessera is not the top level")
  endif()
endforeach()
if(CMAKE_BUILD_TYPE)
  message(FATAL_ERROR "tessera has set CMAKE_BUILD_TYPE")
endif()
