"""How a figure is taken, on CPUs and GPUs: inputs, timing, memory, floors, verification, runs and result folders.

The device is a parameter. What is measured is in `bench.ops`; this package knows no operator.
"""
