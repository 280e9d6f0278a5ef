"""Several processes that share the listening sockets of one machine.

The parent (`pool`) binds the sockets and never accepts from them; its children (`child`), which do, adopt them
(`sockets`). A connection goes to the child with the least to do (`loads`). Parent and child talk over pipes (`messages`).
"""
