"""What each choice in the defaults is worth."""
