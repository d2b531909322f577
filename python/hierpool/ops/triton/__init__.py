"""Fillers that start the Triton kernels of :mod:`hierpool_kernels`."""
