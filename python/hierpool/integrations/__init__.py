"""Patches that make other libraries use hierpool."""
