"""Our engine beside its peers: the same networks and tasks, speed and memory measured in one process.

Only the command line imports it.
"""
