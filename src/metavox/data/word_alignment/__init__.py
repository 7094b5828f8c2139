"""Words cut from transcribed sentences, so that a corpus of sentences gives word tasks.

``tokens`` says what the words of a text are, an aligner (``synthetic``, ``proportional``, ``spoken``) when each of them
is said, ``corpus`` which are kept and how they are written.
"""
