// The assertions of the C++ tests: a failure prints the place and ends the test program with status 1.
#pragma once

#include <cstdio>
#include <cstdlib>

#define EXPECT(condition)                                                            \
  do {                                                                               \
    if (!(condition)) {                                                              \
      std::fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
      std::exit(1);                                                                  \
    }                                                                                \
  } while (false)

#define EXPECT_THROWS(expression, exception, part)                                                  \
  do {                                                                                              \
    std::string expect_message = "nothing was thrown";                                              \
    try {                                                                                           \
      (void)(expression);                                                                           \
    } catch (const exception& error) {                                                              \
      expect_message = error.what();                                                                \
    }                                                                                               \
    if (expect_message.find(part) == std::string::npos) {                                           \
      std::fprintf(stderr, "%s:%d: %s: expected an error with '%s', got: %s\n", __FILE__, __LINE__, \
                   #expression, part, expect_message.c_str());                                      \
      std::exit(1);                                                                                 \
    }                                                                                               \
  } while (false)
