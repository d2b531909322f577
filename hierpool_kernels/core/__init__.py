"""Shared by the kernels of all operators: plans, targets, launches, tiles, chunks of rows and rows of A."""
