"""Fillers that run the plain PyTorch reference."""
