"""Models on disk made into one model: what ``metavox average`` does, for models of words and for recognisers.

``averaging`` knows how numbers are averaged; this room knows what a model is, judges members on development data, and
leaves a model behind that every other verb opens. The command line and the benchmarks import it.
"""
