"""Networks: encoders, heads and sequence matching. They know no task and no learning."""
