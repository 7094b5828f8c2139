"""Texts and transcripts: normalised, romanised, turned into symbols and back, decoded and aligned."""
