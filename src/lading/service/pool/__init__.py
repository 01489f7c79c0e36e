"""Execution environments, their lifecycle and the scheduler that assigns invocations to them.

Knows nothing of HTTP requests from users, of function records or of queues: `front`, `control` and `queue` call it.
"""
