"""What an operator and their tools see: HTTP endpoints and metrics. Decides nothing, changes nothing."""
