"""What a second worker on a second core brings."""
