"""HTTP to a store: connections, sending bodies, answers, proxies. Nothing here depends on the kind of store."""
