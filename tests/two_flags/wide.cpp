#include "body.hpp"

UnitReport wide_report() { return report(); }
