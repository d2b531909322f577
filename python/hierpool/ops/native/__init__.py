"""Fillers that run the C++ kernels."""
