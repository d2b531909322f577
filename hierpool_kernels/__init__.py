"""The Triton kernels of hierpool: what runs on a GPU, how it is cut into programs, and where it is started.

This package needs torch and triton and knows nothing of ``hierpool``, whose operators call it.
"""
