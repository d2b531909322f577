"""Operators: one file each, with types, shapes, composite and public function."""
