"""What a user calls, around the engine."""
