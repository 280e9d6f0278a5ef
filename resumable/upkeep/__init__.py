"""What the service does without a client: cleaning, finishing what was left, counting, and trying its own parts."""
