// The accumulation type of a call as a template argument.
#pragma once

namespace hierpool::cpu {

// Calls run(T()) with T double or float: with_accumulation_type(is_double, [&]<typename T>(T) { ... }).
template <typename Run>
void with_accumulation_type(bool is_double, const Run& run) {
  is_double ? run(double()) : run(float());
}

}  // namespace hierpool::cpu
