"""HTTP to a store, whatever it speaks: connections, bodies on their way, answers, proxies. Nothing here knows a store."""
