// hp_tests [file...]: runs the test cases of the files named by their stems, or all.
#include <algorithm>

#include "testing.h"

namespace hierpool::testing {

std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

bool add_case(const char* file, const char* name, void (*run)()) {
  std::string stem(file);
  stem = stem.substr(stem.find_last_of('/') + 1);
  cases().push_back({stem.substr(0, stem.find('.')), name, run});
  return true;
}

}  // namespace hierpool::testing

int main(int count, char** arguments) {
  const std::vector<std::string> files(arguments + 1, arguments + count);
  size_t found = 0;
  for (const hierpool::testing::Case& test : hierpool::testing::cases()) {
    if (!files.empty() && std::find(files.begin(), files.end(), test.file) == files.end()) continue;
    std::printf("%s: %s\n", test.file.c_str(), test.name.c_str());
    std::fflush(stdout);
    test.run();
    ++found;
  }
  if (found == 0) std::fprintf(stderr, "no test cases found\n");
  return found == 0;
}
