// Memory of the kernels' own.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <new>

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

}  // namespace hierpool::cpu
