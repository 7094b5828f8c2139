"""Protocols that turn a seed into per-item rows, and the report made of them."""
