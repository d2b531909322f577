"""Ahead-of-time compilation of every kernel variant, on a machine that need not have a GPU.

``python -m hierpool_kernels.aot`` records the launches of the launchers (:mod:`.cases`), compiles each variant that a
device would need (:mod:`.compiler`), and compares it with a record (:mod:`.record`). It fails where a variant does not
compile, spills registers, needs too much shared memory, multiplies tiles without tensor cores that could be used, in
TF32 though IEEE is asked for, or loads an aligned matrix in fewer than 16 bytes without a reason that :mod:`.loads`
lists; for gfx942, where a kernel
does not compile, spills or needs too much shared memory.
"""
