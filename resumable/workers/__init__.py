"""Several processes that share the listening sockets of one machine.

The parent (`pool`) binds the sockets and never accepts from them. Its children (`child`) adopt the sockets (`sockets`)
and accept. A connection goes to the child with the least to do (`loads`). Parent and child talk over pipes
(`messages`).
"""
