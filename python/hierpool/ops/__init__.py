"""Operators: schema, shape function, fake kernel, autograd and public function, one file each."""

from hierpool.ops.soft_pool import soft_pool

__all__ = ["soft_pool"]
