"""What is compared, and how one run is counted."""
