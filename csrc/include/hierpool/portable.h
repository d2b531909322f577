// Included before every file on Linux. A binary should load beside a C library of 2018 (glibc 2.28, manylinux_2_28), also
// if it is compiled beside a newer one. glibc 2.29 has new versions of `exp` and `log`, whose values are the same.
#pragma once

#if defined(__x86_64__)
__asm__(".symver exp,exp@GLIBC_2.2.5");
__asm__(".symver log,log@GLIBC_2.2.5");
#elif defined(__aarch64__)
__asm__(".symver exp,exp@GLIBC_2.17");
__asm__(".symver log,log@GLIBC_2.17");
#endif
