"""What goes wrong by somebody's input; apart from the other nouns, so that the command line need not load torch."""


class InputError(ValueError):
    """Something a user gave cannot be used. The message is one sentence: the value, the limit and the remedy."""
