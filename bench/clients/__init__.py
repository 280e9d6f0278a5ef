"""Load drivers: clients in processes of their own, as cheap as blocking sockets are."""
