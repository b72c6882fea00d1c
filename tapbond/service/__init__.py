"""The long-running process: logs, the control socket, readiness, signals."""
