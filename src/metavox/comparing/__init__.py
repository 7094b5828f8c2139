"""Learners beside one another under one budget: the same data, tasks, trials and processor time, and one table."""
