// Parts of newer C and C++ libraries than those of manylinux_2_28 that g++'s headers import, defined here instead; see
// hierpool/portable.h.
#include <new>

#ifdef __GLIBCXX__
#undef _GLIBCXX_EXTERN_TEMPLATE
#define _GLIBCXX_EXTERN_TEMPLATE 0  // of text streams, which the messages of torch's checks are made of
#include <sstream>

template class std::basic_stringbuf<char>;
template class std::basic_ostringstream<char>;
template class std::basic_stringstream<char>;

namespace std {

[[noreturn]] void __throw_bad_array_new_length() { throw bad_array_new_length(); }

}  // namespace std

// Whether shared pointers may count without atomic operations: never.
extern "C" {
__attribute__((visibility("hidden"))) char __libc_single_threaded = 0;
}
#endif
