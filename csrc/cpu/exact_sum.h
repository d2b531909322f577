// Sums in double that tell whether they were rounded.
#pragma once

namespace hierpool::cpu {

// Sums that were not rounded are the same in any order.
class ExactSum {
 public:
  // sum + term
  double add(double sum, double term) {
    const double total = sum + term, seen = total - sum;
    rounded_ |= (sum - (total - seen)) + (term - seen) != 0;
    return total;
  }
  bool rounded() const { return rounded_; }

 private:
  bool rounded_ = false;
};

}  // namespace hierpool::cpu
