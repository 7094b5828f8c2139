"""What ships: takes, commands and refusals. Paths or arrays in, decisions out; no training, no plots."""
