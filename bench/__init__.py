"""The benchmark: this server and its peers, the same bytes to the same sink, in the same run."""
