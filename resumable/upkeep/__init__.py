"""What the service does periodically, without a client: cleaning, finishing what was left, counting, looking after itself."""
