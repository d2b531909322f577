// Memory of the kernels' own.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace hierpool::cpu {

// Uninitialised memory, aligned to cache lines. By hand: the aligned operator new of glibc cuts each block out of a larger
// one and frees the rest.
template <typename T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t count)
      : memory_(allocate(sizeof(T) * static_cast<size_t>(std::max<int64_t>(count, 1)))) {}
  T* data() const { return memory_.get(); }

 private:
  static constexpr uintptr_t kLine = 64;

  // The block that was allocated is remembered before the memory.
  static T* allocate(size_t bytes) {
    void* block = ::operator new(bytes + kLine + sizeof(void*));
    const uintptr_t after = reinterpret_cast<uintptr_t>(block) + sizeof(void*);
    void** memory = reinterpret_cast<void**>((after + kLine - 1) / kLine * kLine);
    memory[-1] = block;
    return reinterpret_cast<T*>(memory);
  }
  struct Free {
    void operator()(T* p) const { ::operator delete(reinterpret_cast<void**>(p)[-1]); }
  };
  std::unique_ptr<T[], Free> memory_;
};

// Memory that is read in no order, in large pages where the system has them: fewer addresses of pages have to be found.
template <typename T>
Buffer<T> buffer_in_large_pages(int64_t count) {
  Buffer<T> buffer(count);
#ifdef __linux__
  constexpr uintptr_t kPage = 4096;
  const auto begin = (reinterpret_cast<uintptr_t>(buffer.data()) + kPage - 1) / kPage * kPage;
  const auto end = reinterpret_cast<uintptr_t>(buffer.data() + count) / kPage * kPage;
  if (end > begin)
    madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);  // a hint, which may fail
#endif
  return buffer;
}

}  // namespace hierpool::cpu
