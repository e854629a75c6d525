# Eigen3::Eigen (>= 3.4), TESSERA_XSIMD_INCLUDE_DIRS (xsimd >= 8.1) and Threads::Threads: found on the system, else
# fetched. Both packages' version files only accept their own major version, so the version is compared here.
include(FetchContent)

find_package(Threads REQUIRED)

find_package(Eigen3 QUIET NO_MODULE)
if(NOT TARGET Eigen3::Eigen OR Eigen3_VERSION VERSION_LESS 3.4)
  message(STATUS "tessera: Eigen >= 3.4 not found, fetching it")
  # The headers alone: Eigen's own build is not run (SOURCE_SUBDIR names no project).
  FetchContent_Declare(eigen GIT_REPOSITORY https://gitlab.com/libeigen/eigen.git GIT_TAG 3.4.0 GIT_SHALLOW ON
                       SOURCE_SUBDIR Eigen/none)
  FetchContent_MakeAvailable(eigen)
  if(NOT TARGET Eigen3::Eigen)
    add_library(Eigen3::Eigen INTERFACE IMPORTED GLOBAL)
  endif()
  set_target_properties(Eigen3::Eigen PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${eigen_SOURCE_DIR}")
endif()

# Only xsimd's include directory is taken: Debian's 8.1 target links to xtl, which no package of it brings.
find_package(xsimd QUIET)
if(TARGET xsimd AND xsimd_VERSION VERSION_GREATER_EQUAL 8.1)
  get_target_property(TESSERA_XSIMD_INCLUDE_DIRS xsimd INTERFACE_INCLUDE_DIRECTORIES)
else()
  message(STATUS "tessera: xsimd >= 8.1 not found, fetching it")
  FetchContent_Declare(xsimd GIT_REPOSITORY https://github.com/xtensor-stack/xsimd.git GIT_TAG 8.1.0 GIT_SHALLOW ON
                       SOURCE_SUBDIR include/none)
  FetchContent_MakeAvailable(xsimd)
  set(TESSERA_XSIMD_INCLUDE_DIRS "${xsimd_SOURCE_DIR}/include")
endif()

if(TESSERA_WITH_JSON)
  find_package(nlohmann_json 3.11 QUIET)
endif()
if(TESSERA_WITH_OPENMP)
  find_package(OpenMP QUIET COMPONENTS CXX)
endif()
