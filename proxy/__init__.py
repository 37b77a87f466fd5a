"""shardproxy: one address in front of many Redis or Memcached servers (the control plane; see README.md)."""
