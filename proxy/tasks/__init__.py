"""Trio tasks: they ask the world, let `proxy.control` decide, and apply the answer."""
