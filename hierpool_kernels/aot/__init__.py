"""Compilation of every kernel variant ahead of time, on a machine that need not have a GPU.

``python -m hierpool_kernels.aot`` asks the launchers for their launches (:mod:`.cases`), compiles each specialisation
that a device would be given (:mod:`.compiler`), and prints what it takes of registers and shared memory
(:mod:`.table`). It fails where registers spill, where shared memory is more than a program may have, and where a
product of tiles that tensor cores take has none of their instructions; for gfx942, where a kernel does not compile or
needs too much shared memory.
"""
