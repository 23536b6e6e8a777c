"""Ops: how the daemon talks to the machine around it."""
