"""Past one machine: a models directory copied to an object store, and from there to as many hosts as route."""
