"""Averages of models: of their predictions, of their weights, and of what they transcribe."""
