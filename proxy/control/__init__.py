"""Decisions: pure functions over frozen values. Nothing in here knows sockets, trio, or the time of day."""
