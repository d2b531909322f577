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

// Uninitialised memory, aligned to cache lines.
template <typename T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t count)
      : memory_(
            static_cast<T*>(::operator new(sizeof(T) * std::max<int64_t>(count, 1), std::align_val_t{64}))) {}
  T* data() const { return memory_.get(); }

 private:
  struct Free {
    void operator()(T* p) const { ::operator delete(p, std::align_val_t{64}); }
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
