/// Expressions over operators and Eigen objects.
#pragma once

#include <tessera/expr/evaluate.hpp>
#include <tessera/expr/explain.hpp>
