"""The servers that are measured. Each has an adapter: what it needs, how it is started, which protocol it speaks."""
