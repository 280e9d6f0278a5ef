"""The servers that are measured, each an adapter: what it needs, how it is started, what it speaks."""
