#include "body.hpp"

UnitReport plain_report() { return report(); }
