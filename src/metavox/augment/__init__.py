"""Changes that leave a word the same word: of samples, kept as variants of a clip; of features, as they are drawn."""
