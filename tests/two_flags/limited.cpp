#include "body.hpp"

UnitReport limited_report() { return report(); }
