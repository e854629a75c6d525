/// Defines what units compiled with TESSERA_EXTERN_TEMPLATES declare only: the kernels of dense products, attention,
/// RoPE and the Walsh-Hadamard transform. For projects of many files: define TESSERA_EXTERN_TEMPLATES for all of them,
/// and let one source hold nothing but
///
///   #include <tessera/instantiate.hpp>
///
/// The flags of both must name the same processor (-m, TESSERA_ISA_LIMIT, -ffast-math), else the linker misses symbols.
#pragma once

#ifdef TESSERA_ABI
#error "tessera: <tessera/instantiate.hpp> comes before any other header of tessera"
#endif
#define TESSERA_INSTANTIATE

#include <tessera/expr/expr.hpp>
#include <tessera/kernels/attention/attention.hpp>
#include <tessera/kernels/attention/columns/list.hpp>
#include <tessera/kernels/attention/unpack/list.hpp>
#include <tessera/kernels/batched/batched.hpp>
#include <tessera/kernels/fwht/list.hpp>
#include <tessera/kernels/gemm/packed.hpp>
#include <tessera/kernels/rope/list.hpp>
#include <tessera/matrix/dense.hpp>
#include <tessera/matrix/detail/thin_qr.hpp>
